"""Quick questions of notebook 14."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "14.a",
        "Ten outputs go through five values. Which of these can the two layers reproduce exactly?",
        (
            Choice("Any layer, if they are trained long enough", "Training does not change what a shape can hold."),
            Choice("Only layers whose ten rows are mixtures of five", "That is what rank 5 means.", right=True),
            Choice("Any layer with at most 550 weights", "The number of weights is not what limits the product."),
        ),
    ),
    Question(
        "14.b",
        "Three blocks are learned in parallel, each on the teacher's inputs. Then they are put together. What is new?",
        (
            Choice("Nothing: each block is as good as before", "As good, but on inputs that it does not get now."),
            Choice("Block 2 gets inputs that it has never seen", "They carry the errors of block 1.", right=True),
            Choice("The last block corrects the first two", "It was never shown their errors."),
        ),
    ),
    Question(
        "14.c",
        "A low-rank update starts with a random `down` and `up` = 0. What happens in the first step?",
        (
            Choice("Nothing: the update is 0, so its gradients are", "The update is 0, but its slope is not."),
            Choice("Only `up` moves", "One step later `down` moves, too.", right=True),
            Choice("Both move", "Change `down` a little: as long as `up` is 0, the outputs do not change."),
        ),
    ),
)
