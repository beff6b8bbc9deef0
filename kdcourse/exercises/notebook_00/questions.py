"""Quick questions of notebook 00."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "00.a",
        "Both arms start from the same initial weights and see the same batches. Why?",
        (
            Choice("Both then end at the same accuracy", "They start equal, but learn different things."),
            Choice("The luck of an initialization cancels in the difference", "Both arms share it.", right=True),
            Choice("Training then takes fewer steps", "It saves no steps."),
        ),
    ),
    Question(
        "00.b",
        "There are 3,500 training images. What does a claim of at least 5,000 do?",
        (
            Choice("It prints ✘ and the notebook runs on", "Nobody reads such a line: a claim raises an error."),
            Choice(
                "It stops the notebook, naming sentence, value and bound",
                "A line can be overlooked, an error cannot.",
                right=True,
            ),
            Choice("It prints ✔ with the measured 3,500", "A claim prints its bound, and only when it holds."),
        ),
    ),
)
