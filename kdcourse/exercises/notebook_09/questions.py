"""Quick questions of notebook 09."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "09.a",
        "Removing channels leaves a quarter of the file. int8 leaves a quarter of a file. Both together leave …",
        (
            Choice("an eighth", "4 and 4 make 8 only if you add. The second step takes a quarter of what is left."),
            Choice("a sixteenth", "Only if all of it shrank. Graph, names and scales are stored as before."),
            Choice(
                "a little more than a sixteenth",
                "Fractions multiply, and what does not shrink matters more and more.",
                right=True,
            ),
        ),
    ),
    Question(
        "09.b",
        "What you ship is an int8 file, run by onnxruntime. Which accuracy goes into the table?",
        (
            Choice("The float network's, before it was rounded", "That network is never run."),
            Choice("That of PyTorch's simulated rounding", "It is near, but export, folding and kernels come after."),
            Choice("The file's own, run by onnxruntime", "It includes whatever went wrong on the way.", right=True),
        ),
    ),
    Question(
        "09.c",
        "Two students train for 30 epochs each. For one of them a teacher runs on every batch. They had …",
        (
            Choice("equal compute: the epochs are equal", "In one of them every step runs two networks."),
            Choice(
                "the same images, but not equal compute",
                "The forward passes of the teacher, and its training, come on top.",
                right=True,
            ),
            Choice("different images: the teacher brings its own", "It saw the same images. It adds its predictions."),
        ),
    ),
)
