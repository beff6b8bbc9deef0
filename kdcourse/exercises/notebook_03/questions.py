"""Quick questions of notebook 03."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "03.a",
        "p gives a class the probability 0.5, and q gives it 0. KL(p ‖ q) is …",
        (
            Choice("0.5 or less: one class is one term", "The term is 0.5 · ln(0.5 / 0)."),
            Choice("infinite", "What q rules out happens half of the time: its surprise is infinite.", right=True),
            Choice(
                "finite: a class with q = 0 contributes nothing",
                ("That is true of p = 0, because p weights the terms."),
            ),
        ),
    ),
    Question(
        "03.b",
        "At a high temperature you double T. The length of the gradient of KL, without the factor T², becomes about …",
        (
            Choice("half", "That is only the 1 / T in front. The difference of probabilities shrinks as well."),
            Choice(
                "a quarter", "1 / T from the chain rule, and 1 / T because both distributions become flat.", right=True
            ),
            Choice("the same", "For this the loss needs the factor T²."),
        ),
    ),
    Question(
        "03.c",
        "F.kl_div(input, target) for distillation. What are input and target?",
        (
            Choice(
                "student's log-probabilities, teacher's probabilities",
                "The function itself does not take the logarithm of its input.",
                right=True,
            ),
            Choice("teacher's log-probabilities, student's probabilities", "Then it is KL(p_s ‖ p_t)."),
            Choice("student's probabilities, teacher's probabilities", "Then equal networks do not give 0."),
        ),
    ),
)
