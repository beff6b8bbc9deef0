"""Quick questions of notebook 03."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "03.a",
        "KL(p ‖ q) is 0. What do you know?",
        (
            Choice("p and q name the same class", "True, but far more is: KL is 0 only where all is equal."),
            Choice("p and q are equal", "Gibbs' inequality: 0 only there.", right=True),
            Choice("p and q have the same entropy", "So have (0.9, 0.1) and (0.1, 0.9), and their KL is 1.76."),
        ),
    ),
    Question(
        "03.b",
        "At a high temperature you double T. The length of the gradient of KL, without the factor T², becomes about …",
        (
            Choice("half", "That is the 1 / T in front. The difference of probabilities shrinks as well."),
            Choice("a quarter", "1 / T from the chain rule, and 1 / T because both become flat.", right=True),
            Choice("what it was", "For that the loss needs the factor T²."),
        ),
    ),
    Question(
        "03.c",
        "F.kl_div(input, target) for distillation. What are input and target?",
        (
            Choice(
                "student's log-probabilities, teacher's probabilities",
                "The function takes logarithms of neither.",
                right=True,
            ),
            Choice("teacher's log-probabilities, student's probabilities", "Then it is KL(p_s ‖ p_t)."),
            Choice("student's probabilities, teacher's probabilities", "Then equal networks do not give 0."),
        ),
    ),
)
