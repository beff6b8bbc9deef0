"""Quick questions of notebook 05."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "05.a",
        "Adam has run for a while. Then weights are zeroed, and from now on also their gradients. The weights …",
        (
            Choice("stay zero", "Adam moves by its average of past gradients, and that is not zero."),
            Choice("come back", "Adam's average of past gradients moves them on.", right=True),
            Choice("come back only with weight decay", "Decay multiplies: zero stays zero."),
        ),
    ),
    Question(
        "05.b",
        "A ticket learns as well as the dense network. Which control shows that its initial values are the reason?",
        (
            Choice("The same mask with other initial values", "Only the values differ.", right=True),
            Choice("A random mask with the same initial values", "That tests the mask."),
            Choice(
                "The dense network with the same initial values", "That is what the ticket is compared with anyway."
            ),
        ),
    ),
    Question(
        "05.c",
        "Nine tenths of a layer's weights are set to zero. They are stored as before, 32 bits each. The file is now …",
        (
            Choice(
                "a tenth of the size", "Only if the zeros are not stored. Then the positions of the others must be."
            ),
            Choice("as large as before", "A zero takes 32 bits, like any other number.", right=True),
            Choice("a little over a tenth: positions are stored as well", "Nothing was told to store positions."),
        ),
    ),
)
