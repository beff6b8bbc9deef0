"""Quick questions of notebook 19."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "19.a",
        "Two vectors of length 1 have the cosine 0. What does a sentence encoder say of the two sentences?",
        (
            Choice("They mean opposite things", "Opposite vectors have the cosine -1, and sentences seldom get there."),
            Choice("They have nothing to do with each other", "Their vectors are at right angles.", right=True),
            Choice("They are equal", "Equal sentences have equal vectors, with the cosine 1."),
        ),
    ),
    Question(
        "19.b",
        "A teacher runs its text through six layers; a table of token vectors only adds up rows. Can the table tell "
        "“the bank of the river” from “the river of the bank”?",
        (
            Choice("It can: the order of the words differs", "A sum does not know in which order it was added."),
            Choice("It cannot: both have the same rows", "Same tokens, same sum, same vector.", right=True),
            Choice("It can, after training on similarities", "No training changes that a sum has no order."),
        ),
    ),
    Question(
        "19.c",
        "A table is 500 times faster than its teacher. How much faster does your search engine become?",
        (
            Choice("500 times", "Only the part that the table has replaced."),
            Choice("That depends on what else it does", "Cutting text into tokens may take longer now.", right=True),
            Choice("500 times, if it runs in the same runtime", "The rest of the work is still there."),
        ),
    ),
    Question(
        "19.d",
        "A student agrees with its teacher on 97 % of the frames. The teacher says “no voice” on 95 % of them. What do "
        "you compare the 97 % with?",
        (
            Choice("With 50 %, two answers being possible", "The two are not equally frequent."),
            Choice("With 95 %, what “no voice” everywhere would reach", "That detector costs nothing.", right=True),
            Choice("With 100 %, the teacher itself", "That is how far it may go, not where it starts."),
        ),
    ),
)
