"""Quick questions of notebook 17."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "17.a",
        "A model needs 2 bits per character on a text of 1,000 characters. How probable is the text to the model?",
        (
            Choice(
                "1/2 to the power of 2,000",
                "The bits of all characters add up, the probabilities multiply.",
                right=True,
            ),
            Choice("1/4", "That is what a single character has, in the geometric mean."),
            Choice("1/2,000", "Bits are a logarithm: probabilities multiply, they do not add up."),
        ),
    ),
    Question(
        "17.b",
        "A prompt of five tokens, an answer of three. At which positions must the logits get a gradient?",
        (
            Choice(
                "At positions 6, 7 and 8: those of the answer", "The logits at 8 have read all and predict nothing."
            ),
            Choice(
                "At positions 5, 6 and 7", "Each predicts the next: the prompt's last the first answer.", right=True
            ),
            Choice("At positions 4, 5 and 6", "That is one shift too many: 4 predicts a token of the prompt."),
        ),
    ),
    Question(
        "17.c",
        "The loss β KL(teacher ‖ m) + (1 - β) KL(student ‖ m) with m = β teacher + (1 - β) student is used with "
        "β = 0.001. What is it near?",
        (
            Choice("The forward KL", "Its first term is forward in direction, and has the weight 0.001."),
            Choice("The reverse KL", "The second term has nearly all the weight, but m is nearly the student."),
            Choice("Zero", "One term has almost no weight, the other almost no distance.", right=True),
        ),
    ),
    Question(
        "17.d",
        "A teacher was stored with its 8 most probable tokens, renormalised. What does the loss say to a student that "
        "gives half of its probability to the other tokens?",
        (
            Choice(
                "Nothing, if the 8 are in the right proportion", "Both sides are divided by their sums.", right=True
            ),
            Choice("To take it away from them", "It would, with one more class for the rest."),
            Choice("To spread it as the teacher does", "What the teacher gives to them was not stored."),
        ),
    ),
)
