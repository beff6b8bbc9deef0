"""Quick questions of notebook 08."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "08.a",
        "A convolution on codes pads its border. The code of 0 is 33. What goes into the border?",
        (
            Choice("0", "Code 0 stands for s · (0 - 33), a negative number: a dark frame around the image."),
            Choice("33", "Padding means the value 0, and its code is the zero point.", right=True),
            Choice(
                "Anything: the bias corrects it", "The bias is one number per channel; at borders other weights matter."
            ),
        ),
    ),
    Question(
        "08.b",
        "Every weight shrinks from four bytes to one. Why is the teacher's int8 file not four times smaller?",
        (
            Choice(
                "Activations are stored as well", "They exist only while it runs; the file contains only their scales."
            ),
            Choice("Graph, names, scales and 32-bit biases do not shrink", "With few weights they matter.", right=True),
            Choice("The weights are stored as floats and rounded on loading", "They are stored as int8."),
        ),
    ),
    Question(
        "08.c",
        "Eager PyTorch in float takes 12 ms, onnxruntime in float 6 ms, in int8 4 ms. What does int8 bring?",
        (
            Choice("3 times", "12 / 4 changes runtime and numbers at once."),
            Choice("2 times", "12 / 6 is what the runtime brings, without any int8."),
            Choice("1.5 times", "6 / 4: the same runtime, only the numbers differ.", right=True),
        ),
    ),
)
