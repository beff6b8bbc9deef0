"""Quick questions of notebook 11."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "11.a",
        "A plain forward hook keeps the output of a convolution. An in-place ReLU follows. What is in the kept tensor?",
        (
            Choice("The convolution's output, since the hook ran first", "It kept the tensor itself, not a copy."),
            Choice("What the ReLU wrote over it", "Both layers share one piece of memory.", right=True),
            Choice("Nothing: PyTorch raises an error", "Only the backward pass may notice, and not for every layer."),
        ),
    ),
    Question(
        "11.b",
        "The regressor of a hint was never given to the optimizer. What do you see during training?",
        (
            Choice("An error, because its gradient is unused", "A gradient that nobody uses is not an error."),
            Choice("A hint loss that stays constant", "The student still has a gradient, and adapts to the regressor."),
            Choice("A hint loss that falls", "The student alone brings it down, so nothing looks wrong.", right=True),
        ),
    ),
    Question(
        "11.c",
        "Add the same vector to the student's features of every example. Which loss changes?",
        (
            Choice("The one on pairwise distances", "A difference of two examples does not contain the shift."),
            Choice("The one on the angles of triangles", "An angle is made of differences, and they stay."),
            Choice("The similarity loss", "Its inner products start at the origin, which has moved.", right=True),
        ),
    ),
    Question(
        "11.d",
        "CKA compares two sets of independent Gaussian features, 64 each, for 16 examples. What does it return?",
        (
            Choice("About 0", "That needs far more examples than features."),
            Choice("About 0.8", "With 64 directions and 16 examples much seems to agree by chance.", right=True),
            Choice("Exactly 1", "Only features that differ by a rotation, a scale and a shift have that."),
        ),
    ),
    Question(
        "11.e",
        "Which placebo comes nearest to the real hint?",
        (
            Choice("The features of an untrained teacher", "They know nothing about digits, only about pixels."),
            Choice("A regressor that is not trained", "It pulls the student towards a random projection."),
            Choice("The features of other images of the same class", "What they keep is the class.", right=True),
        ),
    ),
)
