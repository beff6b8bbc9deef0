"""Quick questions of notebook 00."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "00.a",
        "There are 3,500 training images. What does a claim of at least 5,000 do?",
        (
            Choice("It prints ✘ and the notebook runs on", "A line nobody reads is no check: a claim raises."),
            Choice("It stops the notebook, naming sentence, value and bound", "See the next cell.", right=True),
            Choice("It prints ✔ with the measured 3,500", "A claim prints its bound, and only when it holds."),
        ),
    ),
    Question(
        "00.b",
        "The two students differ in one thing only, the teacher. What else must be the same for that to be true?",
        (
            Choice("The final training loss", "The losses differ in kind, so their values do not compare."),
            Choice("Initial weights, batch order, epochs, learning rate", "What is left is the teacher.", right=True),
            Choice("Only the number of epochs", "Another start or batch order alone moves accuracy, too."),
        ),
    ),
)
