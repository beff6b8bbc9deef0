"""Quick questions of notebook 07."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "07.a",
        "A grid in 8 bits over the range from 0.3 to 1.0 is finer than one from 0 to 1.0. What speaks against it?",
        (
            Choice("Nothing, if no value is below 0.3", "Padding and ReLU bring zeros, whatever the range says."),
            Choice("Zero has no code on it", "All zeros would come back as 0.3, all wrong the same way.", right=True),
            Choice("Its scale is not a power of two", "Neither is the other scale, and it need not be."),
        ),
    ),
    Question(
        "07.b",
        "A weight is beyond the end of the grid. Which gradient does the straight-through estimator give it?",
        (
            Choice("The gradient of its rounded value", "That is for weights inside the grid."),
            Choice("Zero: a small change has no effect", "It is clipped to the end in any case.", right=True),
            Choice("Zero, like every rounded weight", "That is rounding's true derivative; then nothing would learn."),
        ),
    ),
)
