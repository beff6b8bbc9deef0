"""Quick questions of notebook 10."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "10.a",
        "The distillation loss of two identical networks comes out as −2.1. Which cause fits?",
        (
            Choice("The factor T² is missing", "0 without T² is still 0."),
            Choice(
                "Probabilities stand where log-probabilities belong",
                "Then it is no KL, and can be negative.",
                right=True,
            ),
            Choice("The temperature is too high", "At any temperature the KL of equal networks is 0."),
        ),
    ),
    Question(
        "10.b",
        "A test holds the line torch.equal(expected, got) and nothing else. When does it fail?",
        (
            Choice("When the values differ", "Then it is False, and nobody looks: the assert is missing."),
            Choice("When the shapes differ", "torch.equal answers False to that, it does not raise."),
            Choice("Never, for two tensors", "Its value is thrown away.", right=True),
        ),
    ),
)
