"""Quick questions of notebook 13."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "13.a",
        "Of 64 unlabelled images, two are above the threshold. By what is the sum of their cross-entropies divided?",
        (
            Choice("By 2: a mean is taken over what is there", "Then two images weigh as much as 64 elsewhere."),
            Choice("By 64: few confident images, little weight", "The others count as zeros.", right=True),
            Choice("By the sum of the two confidences", "That is a weighted mean, and it is also over the two alone."),
        ),
    ),
    Question(
        "13.b",
        "A student learns from a teacher that shares its architecture. Where does noise, such as augmentation, belong?",
        (
            Choice("On the teacher's image only", "Its targets get worse, and the student has nothing to resist."),
            Choice("Nowhere: clean images for both", "Then the student can copy the teacher, errors included."),
            Choice("On the student's image only", "It must reach a clean look's answer from a worse one.", right=True),
        ),
    ),
    Question(
        "13.c",
        "A network is right on 93 of 100 validation images. How far off may 93 % be, with a confidence of 95 %?",
        (
            Choice("By about 0.5 points", "That would take ten thousand images."),
            Choice("By about 2 points", "One standard error is 2.6 points, and the interval has two to each side."),
            Choice("By about 5 points", "1.96 standard errors of 2.6 points.", right=True),
        ),
    ),
    Question(
        "13.d",
        "A network from MNIST runs on scikit-learn's digits in eval mode. Which of its numbers are still MNIST's, and "
        "can be measured again without labels or gradients?",
        (
            Choice("Batch norm's running mean and variance", "They describe images alone.", right=True),
            Choice("The weights of the last layer", "They were learned from labels."),
            Choice("Batch norm's scale and shift", "They are parameters, learned by gradients."),
        ),
    ),
)
