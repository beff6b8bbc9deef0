"""Quick questions of notebook 22."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "22.a",
        "What does `ema.mul_(alpha).add_(1 - alpha, p)` leave in ema, in PyTorch's old order of arguments?",
        (
            Choice("alpha · ema + (1 - alpha) · p", "The old order is `add_(scale, tensor)`.", right=True),
            Choice("alpha · ema + (1 - alpha) + p", "The number is not added: it multiplies the tensor."),
            Choice(
                "alpha · (ema + (1 - alpha) · p)", "mul_ has changed ema before add_ begins: p is not multiplied again."
            ),
        ),
    ),
    Question(
        "22.b",
        "The sum of e^(-s) L + s over tasks becomes negative. What do you do?",
        (
            Choice("Nothing: it may be negative", "Its smallest value is 1 + ln L, negative for L < 1/e.", right=True),
            Choice("Clip s at 0", "Then no weight can exceed 1, and tasks with a small loss lose theirs."),
            Choice("Take the absolute value of s", "That has another optimum: the method is no longer the same."),
        ),
    ),
    Question(
        "22.c",
        "The code takes softmax(z) to the power 1/T and normalizes; the paper has softmax(z / T). These …",
        (
            Choice("are the same function", "(e^z)^(1/T) = e^(z/T); the constant is normalized away.", right=True),
            Choice("differ, as the power comes after the sum", "The sum is the same for all classes, so it cancels."),
            Choice("agree only for T = 2", "The exponent 1/T does the same for every T."),
        ),
    ),
    Question(
        "22.d",
        "An adapter was trained with dropout p on its input. By what is it multiplied when it is merged?",
        (
            Choice("1 - p", "PyTorch has divided by 1 - p in training already, so the mean is right."),
            Choice("1 / (1 - p)", "That was done in training. Done twice, the adapter is too strong."),
            Choice("Nothing that has to do with p", "In training the mean over the masks is the input.", right=True),
        ),
    ),
    Question(
        "22.e",
        "An unbiased estimate of a squared distance is -0.02. That means …",
        (
            Choice("the code is wrong", "An unbiased estimate of 0 must lie below 0 in some draws."),
            Choice("the distance may be 0", "Then values on both sides of 0 are expected.", right=True),
            Choice("the batches are too small to compute it", "It is computed well; larger batches vary less."),
        ),
    ),
    Question(
        "22.f",
        "The patch above adds the buffers to a moving average. Accept?",
        (
            Choice("Accept: the buffers were missing", "They were. But look at which side the new lines write to."),
            Choice("Reject: buffers must not be averaged", "They must: old statistics do not fit new weights."),
            Choice(
                "Reject: it writes into the online network", "The student changes, the average does not.", right=True
            ),
        ),
    ),
    Question(
        "22.g",
        "The patch above cuts the teacher's logits to the student's width. Accept?",
        (
            Choice(
                "Accept, if the cut columns have no probability",
                "No text contains these tokens: that can be measured.",
                right=True,
            ),
            Choice("Accept: the shapes agree now", "They would agree for two unrelated tokenizers as well."),
            Choice("Reject: the student needs the teacher's columns", "No token of the tokenizer has these numbers."),
        ),
    ),
    Question(
        "22.h",
        "The patch above gives a missing task the student's own logits as targets. Accept?",
        (
            Choice("Accept: the loss is 0 there, as it should be", "Nothing says so: the data are missing."),
            Choice("Reject: it hides that data are missing", "A loss of 0 looks like success.", right=True),
            Choice("Reject: the gradient would be wrong", "The gradient is 0; that is the problem, not an error."),
        ),
    ),
)
