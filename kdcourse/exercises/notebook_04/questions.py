"""Quick questions of notebook 04."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "04.a",
        "Under torch.no_grad(), in train mode, the teacher only processes 100 images. Does the teacher change?",
        (
            Choice("No: without gradients nothing changes", "Batch norm's running statistics are not gradients."),
            Choice("Yes: batch norm's running statistics move", "In train mode every batch updates them.", right=True),
            Choice(
                "Only if an optimizer updates its parameters", "Running statistics are buffers: no optimizer needed."
            ),
        ),
    ),
    Question(
        "04.b",
        "The teacher's logits are cached, one row per image. Now every epoch shifts each image at random. The "
        "rows are …",
        (
            Choice(
                "still right: the digit is the same",
                "The label still fits. A teacher's output says more than the label.",
            ),
            Choice("outputs for other images: run the teacher again", "It never saw the shifted ones.", right=True),
            Choice("right on average", "The mean over shifts is a different target for each image."),
        ),
    ),
    Question(
        "04.c",
        "Five seeds, gain of distillation in points: +0.4, −0.3, +0.6, +0.1, −0.2. What may you say?",
        (
            Choice("Distillation helps: the mean is above 0", "By chance alone it is above 0 in half of all cases."),
            Choice("Distillation does nothing here", "The 95 % interval, −0.36 to 0.60, also allows half a point."),
            Choice(
                "Five seeds do not tell", "The 95 % interval, −0.36 to 0.60, contains gains and losses.", right=True
            ),
        ),
    ),
)
