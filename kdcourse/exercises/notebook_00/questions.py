"""Quick questions of notebook 00."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "00.a",
        "There are 3,500 training images. What does a claim of at least 5,000 do?",
        (
            Choice("It prints ✘ and the notebook runs on", "A line nobody reads is no check: a claim raises."),
            Choice(
                "It stops the notebook, naming sentence, value and bound",
                "A line can be read over, an error cannot.",
                right=True,
            ),
            Choice("It prints ✔ with the measured 3,500", "A claim prints its bound, and only when it holds."),
        ),
    ),
    Question(
        "00.b",
        "Alone and with the teacher, the student begins with the same weights and sees the same batches. What for?",
        (
            Choice("Then both end at the same accuracy", "The start is the same, what is learned is not."),
            Choice("The luck of a start falls out of the difference", "Both have the same luck.", right=True),
            Choice("Training takes fewer steps", "Not one step is saved by it."),
        ),
    ),
)
