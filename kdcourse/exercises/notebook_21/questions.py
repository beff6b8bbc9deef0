"""Quick questions of notebook 21."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "21.a",
        "The teacher's logits are kept in a list and read by the position in a loader that shuffles. What happens?",
        (
            Choice("An error: the shapes do not match", "They match: every row has as many classes."),
            Choice("The student trains on the targets of other rows", "Nothing crashes.", right=True),
            Choice("Nothing: the order is the same in each epoch", "A new order is drawn whenever the loader begins."),
        ),
    ),
    Question(
        "21.b",
        "A run goes on from its last weights, and nothing else was saved. What begins again from the start?",
        (
            Choice("Nothing that matters: the weights are the network", "The next steps depend on more than weights."),
            Choice("The learning rate's schedule only", "AdamW also forgets what it knew of earlier gradients."),
            Choice(
                "The optimizer's moments, the schedule, the order and all noise",
                "All of them decide where the next step goes.",
                right=True,
            ),
        ),
    ),
    Question(
        "21.c",
        "A Trainer's step has four ragged micro-batches, and compute_loss returns the mean over each one's own tokens. "
        "The model takes loss arguments. Compared with one large batch, the step is",
        (
            Choice("the same", "Means of different numbers of tokens cannot simply be added."),
            Choice("about four times too long, and turned a little", "Nobody divides by four.", right=True),
            Choice("about four times too short", "Then somebody would have divided by four twice."),
        ),
    ),
)
