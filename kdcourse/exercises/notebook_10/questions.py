"""Quick questions of notebook 10."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "10.a",
        "A loss is summed over the batch, not averaged. You double the batch size. With plain SGD that …",
        (
            Choice("changes the printed loss only", "The gradient is summed as well."),
            Choice("effectively doubles the learning rate", "The gradient is about twice as long.", right=True),
            Choice("changes nothing: the optimizer divides by N", "An optimizer does not know N."),
        ),
    ),
    Question(
        "10.b",
        "A test contains the line torch.equal(expected, got) and nothing else. When does it fail?",
        (
            Choice("When the values differ", "Then it returns False, and nothing checks that: the assert is missing."),
            Choice("When the shapes differ", "torch.equal returns False then; it does not raise."),
            Choice("Never, for two tensors", "Its result is discarded.", right=True),
        ),
    ),
)
