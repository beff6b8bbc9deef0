"""Quick questions of notebook 02."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "02.a",
        "As T grows without bound, softmax(z / T) of five classes tends to …",
        (
            Choice("1 for the largest logit, 0 for the others", "That is the limit T → 0."),
            Choice("0.2 for every class", "All z / T tend to 0, and exp(0) is the same for all classes.", right=True),
            Choice("softmax(z), whatever T", "That is T = 1."),
        ),
    ),
    Question(
        "02.b",
        "The logits (5, 2, 1) become (105, 102, 101). Softened at T = 4, the probabilities …",
        (
            Choice(
                "become sharper: the logits are larger",
                ("Only differences of logits matter, and these have not changed."),
            ),
            Choice("stay the same", "exp(100 / T) is in the numerator and the denominator, and cancels.", right=True),
            Choice("become softer: the ratios of the logits are smaller", "Ratios of logits mean nothing to softmax."),
        ),
    ),
    Question(
        "02.c",
        "Which of these can a temperature above 1 change?",
        (
            Choice("Which class is predicted", "Dividing by T > 0 keeps the order of the logits."),
            Choice("The accuracy", "It depends only on the order, which does not change."),
            Choice("How much more probable the first class is than the second", "It is exp(Δz / T).", right=True),
        ),
    ),
)
