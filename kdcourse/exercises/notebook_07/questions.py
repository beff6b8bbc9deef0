"""Quick questions of notebook 07."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "07.a",
        "A grid in 8 bits over the range from 0.3 to 1.0 is finer than one from 0 to 1.0. What speaks against it?",
        (
            Choice("Nothing, where no value lies below 0.3", "Padding and ReLU bring zeros, whatever the range says."),
            Choice("Zero has no code on it", "All zeros would come back as 0.3, all wrong the same way.", right=True),
            Choice("Its scale is no power of two", "Nor is the other one's, and nobody needs it."),
        ),
    ),
    Question(
        "07.b",
        "A weight lies beyond the end of the grid. Which gradient does it get, straight through?",
        (
            Choice("The gradient of its rounded value", "That is for weights inside the grid."),
            Choice("Zero: more or less makes no difference", "It is clipped to the end in any case.", right=True),
            Choice("Zero, like every rounded weight", "That is rounding's true derivative; then nothing would learn."),
        ),
    ),
)
