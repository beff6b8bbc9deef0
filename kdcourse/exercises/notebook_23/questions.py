"""Quick questions of notebook 23."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "23.a",
        "An entry is right on 495 of the 500 public digits. What do you know of its accuracy on all such digits?",
        (
            Choice("It is 99.0 %", "That is the accuracy on these 500. Another 500 would give another one."),
            Choice(
                "It is probably from 97.7 % to 99.7 %",
                "Clopper and Pearson's interval, at 95 %, for one entry that was not chosen by this score.",
                right=True,
            ),
            Choice("It is above 98.9 %", "Five errors more would be no surprise: 98.0 % is possible, too."),
        ),
    ),
    Question(
        "23.b",
        "Why is the final score measured on images that no participant has seen?",
        (
            Choice(
                "They are harder than the public ones", "They need not be. What counts is that nobody chose by them."
            ),
            Choice(
                "More images give a shorter interval",
                "More public images would do that, too, and still be chosen by.",
            ),
            Choice(
                "Choosing by a score makes that score too high",
                "Recipes, seeds and stopping points were all chosen by the public score.",
                right=True,
            ),
        ),
    ),
    Question(
        "23.c",
        "Two entries were judged on different numbers of images. What does it change to rank them by the lower end of "
        "the interval and not by the accuracy itself?",
        (
            Choice(
                "A score counts as far as its images support it",
                "The fewer images, the further the lower end is below the accuracy.",
                right=True,
            ),
            Choice("The better of two entries always wins", "No interval knows which is better; two can overlap."),
            Choice(
                "Nothing: both give the same order",
                "On equally many images, yes. On fewer images the lower end is further below the accuracy.",
            ),
        ),
    ),
    Question(
        "23.d",
        "Of a float32 ONNX file's weights 90 % are set to zero. The file on disk is then …",
        (
            Choice("a tenth as large", "Only if the zeros were left out. A dense tensor stores each of them."),
            Choice(
                "as large as before", "A zero takes four bytes, too: it needs a format that leaves it out.", right=True
            ),
            Choice(
                "a fifth as large, as positions are stored as well",
                "In a sparse format, perhaps. This file has no positions.",
            ),
        ),
    ),
    Question(
        "23.e",
        "Why is the latency a ratio to a reference file that runs interleaved with the entry?",
        (
            Choice("A ratio is more precise than milliseconds", "Not in itself: a ratio of two bad times is bad."),
            Choice(
                "The reference is the file to beat",
                "Any file would do. It has to run under the same conditions, in the same minutes.",
            ),
            Choice(
                "What slows the machine down slows both",
                "Another machine, or a busy one, changes milliseconds far more than the ratio.",
                right=True,
            ),
        ),
    ),
    Question(
        "23.f",
        "Without one ingredient the accuracy is lower by 0.12 points, 95 % interval -0.20 to 0.44, five paired seeds. "
        "What do you write?",
        (
            Choice("The ingredient brings 0.12 points", "The interval contains zero: chance alone can do that."),
            Choice("The ingredient has no effect", "An effect of 0.4 points is as compatible with the five seeds."),
            Choice(
                "Its effect is from -0.20 to 0.44 points, so it was not shown to help",
                "That is what was measured. Leave the ingredient out, or run more seeds.",
                right=True,
            ),
            Choice("Nothing: an arm without a result is left out", "Then the next reader tries it again."),
        ),
    ),
    Question(
        "23.g",
        "The judge attacks an entry with images that were made to fool the course's own teachers. The accuracy under "
        "this attack is …",
        (
            Choice("a lower bound of the robust accuracy", "An attack made for the entry itself would find more."),
            Choice(
                "an upper bound of the robust accuracy",
                "Every attack shows only the errors that it finds. One made for this entry finds more.",
                right=True,
            ),
            Choice("its robust accuracy against any attack", "One attack was tried, and it was made for others."),
            Choice("of no use", "Entries that already fail here are not robust: that is worth knowing."),
        ),
    ),
    Question(
        "23.h",
        "A report says: 98.9 % on the final images, the best of ten files that were handed in. What does a reviewer "
        "ask first?",
        (
            Choice("Which optimizer was used", "That belongs in the report, but the result can be right without it."),
            Choice("Why ten files and not a hundred", "A hundred would have made it worse."),
            Choice(
                "Whether the file was chosen by its final score",
                "Then the final set was used as a public one, and the score is too high.",
                right=True,
            ),
        ),
    ),
)
