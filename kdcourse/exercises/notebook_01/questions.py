"""Quick questions of notebook 01."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "01.a",
        "You tried 30 learning rates and kept the best on validation. Which number do you report?",
        (
            Choice("Its accuracy on validation", "It was chosen for being high there: luck is part of it."),
            Choice("The highest test accuracy of the 30", "Then the test split has done the choosing."),
            Choice("Its accuracy on test, measured once", "Test had no say in the choice.", right=True),
        ),
    ),
    Question(
        "01.b",
        "A network says 0.95 on 200 images, and 170 of these answers are right. The network is …",
        (
            Choice("too sure", "It is right in 85 % of the cases where it says 95 %.", right=True),
            Choice("not sure enough", "It says 95 % and is right in 85 %: less often than it says."),
            Choice("calibrated: it is mostly right", "Calibrated would be 190 right answers of 200."),
        ),
    ),
)
