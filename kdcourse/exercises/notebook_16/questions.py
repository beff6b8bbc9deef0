"""Quick questions of notebook 16."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "16.a",
        "A network met five tasks of two digits each, without any care. Asked which of all ten digits an image of the "
        "first task shows, how often is it right?",
        (
            Choice("Half of the time: two digits belong to each task", "That is chance if the task is known."),
            Choice("Nearly never: it predicts digits of the last task", "Only these were rewarded.", right=True),
            Choice("One time in ten, as if it guessed", "It does not guess: it is confident, and wrong."),
        ),
    ),
    Question(
        "16.b",
        "The old network is asked about images of *new* classes, and the student is to agree with it. What about?",
        (
            Choice("Which of the old classes an image resembles", "It knows no others.", right=True),
            Choice("That an image is of a new class", "It has never learned what a new class is."),
            Choice("What the old images looked like", "They are not there; it sees new ones."),
        ),
    ),
    Question(
        "16.c",
        "A memory has 157,000 bytes. An image takes 784, its label 1, its ten logits 40. What do the logits cost?",
        (
            Choice("Nothing: they are computed anyway", "They are kept, and what is kept takes room."),
            Choice("Half of the images", "Then ten logits would have to be as large as an image."),
            Choice("One image in twenty, about", "785 against 825 bytes.", right=True),
        ),
    ),
    Question(
        "16.d",
        "A network distils its old self on 500 *old* images while it learns five new digits. Which softmax is right?",
        (
            Choice("Over the old digits only, as on new images", "Then a new digit may win on every old image."),
            Choice("Over all ten, with 0 for the new ones", "An old image is none of the new digits.", right=True),
            Choice("Over the new digits only", "The old network has no opinion about them."),
        ),
    ),
)
