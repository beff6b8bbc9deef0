"""Quick questions of notebook 04."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "04.a",
        "Under torch.no_grad(), in train mode, we only look at 100 images. Does the teacher change?",
        (
            Choice("No: without gradients nothing changes", "What batch norm remembers is no gradient."),
            Choice("Yes: batch norm's running statistics move", "In train mode every look updates them.", right=True),
            Choice("Only if an optimizer holds its parameters", "Running statistics are buffers: no optimizer needed."),
        ),
    ),
    Question(
        "04.b",
        "The teacher's logits are kept, a row an image. Now every epoch shifts each image at random. The rows are …",
        (
            Choice("still right: the digit is the same", "The label is. A teacher says more than the label."),
            Choice("answers to other images: ask the teacher anew", "It never saw the shifted ones.", right=True),
            Choice("right on average", "The mean over shifts is another answer for each image."),
        ),
    ),
    Question(
        "04.c",
        "Five seeds, distilled minus alone, in points: +0.4, −0.3, +0.6, +0.1, −0.2. What may you say?",
        (
            Choice("Distillation helps: the mean is above 0", "By luck alone it is in half of all cases."),
            Choice("Distillation does nothing here", "The 95 % interval, −0.36 to 0.60, allows half a point, too."),
            Choice("Five seeds do not tell", "The 95 % interval, −0.36 to 0.60, holds gains and losses.", right=True),
        ),
    ),
)
