"""Quick questions of notebook 18."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "18.a",
        "There are 97 different characters. How many bits per character does a model need that gives each of them the "
        "same probability?",
        (
            Choice("97 bits", "One bit for each would be needed to store a whole set of characters, not one of them."),
            Choice("8 bits, a byte", "A byte holds 256 different ones: more than there are."),
            Choice("6.6 bits", "-log₂ of 1/97. A model that knows something needs fewer.", right=True),
        ),
    ),
    Question(
        "18.b",
        "4-bit codes in groups of 32 weights, each with a scale of 16 bits and a zero point of 4. How many bits per "
        "weight are stored?",
        (
            Choice("4.625", "4 + (16 + 4) / 32.", right=True),
            Choice("4", "These are the codes alone, which nobody can decode without scales."),
            Choice("24", "The 20 bits are shared by 32 weights."),
        ),
    ),
    Question(
        "18.c",
        "When does a layer with 4-bit weights run faster than in float32, on one thread?",
        (
            Choice("Always: it reads an eighth of the bytes", "Codes must be unpacked, which is work of its own."),
            Choice(
                "With one row of inputs and weights larger than the cache",
                "Then reading the weights takes the time.",
                right=True,
            ),
            Choice("With many rows of inputs", "Then each weight is used many times, and arithmetic takes the time."),
        ),
    ),
    Question(
        "18.d",
        "If all inputs of a layer have the same norm, which weights does Wanda prune?",
        (
            Choice("None: all scores are equal", "The score still has |w| in it."),
            Choice("Those with the smallest inputs", "The inputs are all of one size, so they decide nothing."),
            Choice("Those of the smallest magnitude in each row", "The score is |w| times a constant.", right=True),
        ),
    ),
)
