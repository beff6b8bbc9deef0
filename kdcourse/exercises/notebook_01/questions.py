"""Quick questions of notebook 01."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "01.a",
        "Of 30 learning rates you keep the best on validation: 98.0 %. On test the same network probably has …",
        (
            Choice("as much", "It would, had validation not done the choosing."),
            Choice("a little more", "Nothing favours test: it had no say in the choice."),
            Choice(
                "a little less", "It was chosen for being high on validation, and luck is part of that.", right=True
            ),
        ),
    ),
    Question(
        "01.b",
        "A network says 0.95 on 200 images, and 170 of these answers are right. The network is …",
        (
            Choice("overconfident", "It is right in 85 % of the cases where it says 95 %.", right=True),
            Choice("underconfident", "It says 95 % and is right in 85 %: less often than it says."),
            Choice("calibrated: it is mostly right", "Calibrated would be 190 right answers of 200."),
        ),
    ),
)
