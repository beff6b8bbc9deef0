"""Quick questions of notebook 01."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "01.a",
        "Of 30 learning rates you keep the one with the best validation accuracy, 98.0 %. On test the same network "
        "probably has …",
        (
            Choice("the same accuracy", "It would, if validation had not been used to choose."),
            Choice("a slightly higher accuracy", "Nothing favours test: it played no part in the choice."),
            Choice(
                "a slightly lower accuracy",
                "It was chosen for being high on validation, and part of that is luck.",
                right=True,
            ),
        ),
    ),
    Question(
        "01.b",
        "A network predicts with confidence 0.95 on 200 images, and 170 of these predictions are correct. It is …",
        (
            Choice("overconfident", "It is correct in 85 % of the cases, and its confidence is 95 %.", right=True),
            Choice("underconfident", "Its confidence is 95 %, and it is correct less often than that, in 85 %."),
            Choice("calibrated: it is mostly correct", "A calibrated network would get 190 of 200 right."),
        ),
    ),
)
