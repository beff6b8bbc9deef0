"""Quick questions of notebook 02."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "02.a",
        "As T grows without bound, softmax(z / T) of five classes tends to …",
        (
            Choice("1 for the largest logit, 0 for the others", "That is the limit T → 0."),
            Choice("0.2 for every class", "All z / T tend to 0, and exp(0) is the same for all.", right=True),
            Choice("softmax(z), whatever T", "That is T = 1."),
        ),
    ),
    Question(
        "02.b",
        "The logits (5, 2, 1) become (105, 102, 101). Softened at T = 4, the probabilities …",
        (
            Choice("harden: the logits are larger", "Only differences of logits count, and these have not changed."),
            Choice("stay as they are", "exp(100 / T) stands above and below the line, and cancels.", right=True),
            Choice("soften: the ratios of the logits are smaller", "Ratios of logits mean nothing to softmax."),
        ),
    ),
    Question(
        "02.c",
        "Which of these can a temperature above 1 change?",
        (
            Choice("Which class is named", "Dividing by T > 0 keeps the order of the logits."),
            Choice("The accuracy", "It depends on the order alone, and that stays."),
            Choice("How much more probable the first class is than the second", "It is exp(Δz / T).", right=True),
        ),
    ),
)
