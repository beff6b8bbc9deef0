"""Quick questions of notebook 15."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "15.a",
        "A weight of 1.0 is stored in bfloat16, a format of 16 bits. 0.001 is subtracted 1,000 times. What is left?",
        (
            Choice("About 0, give or take a rounding error", "That is what float32 gives."),
            Choice("Something in between: it moves at first, then stops", "It stops before it begins."),
            Choice("Exactly 1.0", "Every single result is nearer to 1.0 than to the number below it.", right=True),
        ),
    ),
    Question(
        "15.b",
        "Small gradients become 0 in float16. The loss is multiplied by S before the backward pass. Which S?",
        (
            Choice("A large power of two, smaller when something overflows", "It changes only exponents.", right=True),
            Choice("1,000, a round number", "It is not a power of two: multiplying and dividing rounds."),
            Choice("One that makes the mean gradient 1", "The largest gradient decides what overflows, not the mean."),
        ),
    ),
    Question(
        "15.c",
        "Two networks of one kind, trained from different initial weights, make 5 % errors each. Of their average:",
        (
            Choice("About 5 % errors", "For that their units would have to stand in the same order."),
            Choice("Fewer: it is an ensemble", "An ensemble averages outputs. This averages weights."),
            Choice("Far more", "Unit 7 of one and unit 7 of the other have nothing in common.", right=True),
        ),
    ),
)
