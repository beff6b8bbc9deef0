"""Quick questions of notebook 20."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "20.a",
        "Of 1,000 predictions 40 changed, and the accuracy fell by one point. What do you know of the images that were "
        "right before and are wrong now?",
        (
            Choice("There are 10 of them", "That is the net change: broken minus fixed."),
            Choice("There are from 10 to 25", "With f fixed ones there are f + 10, and 2 f + 10 ≤ 40.", right=True),
            Choice("There are 40 of them", "Then the accuracy would have fallen by four points."),
        ),
    ),
    Question(
        "20.b",
        "A tool attacks an int8 network whose rounding passes no gradient. The accuracy stays at 93 %. What was shown?",
        (
            Choice("Rounding removes small perturbations", "It may remove some. The tool has not tried any."),
            Choice("Nothing: the attack never moved", "Attack a copy that passes gradients instead.", right=True),
            Choice("int8 is a defence against this tool only", "The tool did not even begin."),
        ),
    ),
    Question(
        "20.c",
        "An attack guesses members of a training set with an AUC of 0.5. What follows?",
        (
            Choice("The network has no private information", "Another attack may find it."),
            Choice("This attack, on these images, does no better than chance", "No more than that.", right=True),
            Choice("Half of the members were found", "An AUC is a probability about pairs, not a number of images."),
        ),
    ),
    Question(
        "20.d",
        "A student copies three meaningless outputs of a teacher on noise images. When can it learn to read digits?",
        (
            Choice("If it started from the teacher's start", "Then the same weights mean the same.", right=True),
            Choice("If it is large enough", "A large network from another start learns the three outputs only."),
            Choice("Never: noise contains no digits", "The teacher's weights contain them, and its outputs leak them."),
        ),
    ),
)
