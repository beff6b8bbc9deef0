"""Quick questions of notebook 06."""

from ..engine.asking import Choice, Question

QUESTIONS = (
    Question(
        "06.a",
        "Every layer keeps half of its channels. A convolution in the middle keeps which fraction of its work?",
        (
            Choice("a half", "Half of the filters, but each filter's inputs are halved as well."),
            Choice("a quarter", "Half of the filters times half of each filter's inputs.", right=True),
            Choice("an eighth", "Height and width of the image have not changed."),
        ),
    ),
    Question(
        "06.b",
        "In train mode, one filter before a batch norm is multiplied by 10. Its channel after the norm is …",
        (
            Choice("ten times as large", "The norm divides by the standard deviation, which has also grown tenfold."),
            Choice("a tenth", "The norm divides by ten what has been multiplied by ten."),
            Choice("what it was", "So the size of such a filter says nothing about its importance.", right=True),
        ),
    ),
    Question(
        "06.c",
        "A pruned network, trained for 15 more epochs, beats one of its size trained 15 epochs from scratch. It "
        "shows …",
        (
            Choice("that pruning finds better networks", "It had the large network's epochs behind it as well."),
            Choice("little: the other had fewer epochs", "Give it all the epochs of both stages.", right=True),
            Choice("that small networks cannot be trained", "It was not given the time."),
        ),
    ),
)
