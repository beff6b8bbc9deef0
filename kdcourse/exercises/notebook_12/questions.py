"""Quick questions of notebook 12."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "12.a",
        "A network is trained on a first network's outputs. Same size, same images. Where can a gain come from?",
        (
            Choice("From new knowledge about the images", "The only source is the first network. It has no more."),
            Choice("From targets that are smoother than the labels", "They shrink what is noise.", right=True),
            Choice("Nowhere: a copy cannot beat its original", "It starts from other weights and sees other targets."),
        ),
    ),
    Question(
        "12.b",
        "Two networks start from the same weights, see the same batches, and learn from each other. After an epoch:",
        (
            Choice("They have corrected each other's errors", "Both make the same errors in every step."),
            Choice("They have drifted apart", "Same weights and same gradients give the same weights."),
            Choice("They are still the same, as if each had been alone", "The divergence is always 0.", right=True),
        ),
    ),
    Question(
        "12.c",
        "There are no data. Which images make the best training set for a student of your teacher?",
        (
            Choice("Noise: it covers everything", "The teacher sees one class in nearly all of it."),
            Choice("Images on which the teacher is certain", "Noise can be optimized until it is certain."),
            Choice("Images on which its answers vary with the content", "Only those show what it does.", right=True),
        ),
    ),
)
