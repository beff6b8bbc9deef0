"""04.8 a placebo."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def placebo(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = teacher_logits.clone()
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        given[rows] = teacher_logits[rows.roll(-1)]
    return given


def placebo_by_sorting(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    order = labels.argsort(stable=True)
    groups = order.split(torch.bincount(labels[order]).tolist())
    source = torch.cat([rows.roll(-1) for rows in groups])
    return torch.zeros_like(teacher_logits).index_copy(0, order, teacher_logits[source])


def placebo_by_looking_ahead(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    y, count = labels.tolist(), len(labels)
    following = [
        next((row + k) % count for k in range(1, count + 1) if y[(row + k) % count] == y[row]) for row in range(count)
    ]
    return torch.stack([teacher_logits[row] for row in following])


def across_classes(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return teacher_logits.roll(-1, dims=0)


def by_the_named_class(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return placebo(teacher_logits, teacher_logits.argmax(dim=-1))


def mean_of_the_class(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([teacher_logits[labels == label].mean(dim=0) for label in labels])


def other_way_round(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = teacher_logits.clone()
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        given[rows] = teacher_logits[rows.roll(1)]
    return given


def classes_shuffled(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return teacher_logits.roll(-1, dims=1)


def nothing_moved(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return teacher_logits.clone()


def _rows(labels: Tensor) -> list[Tensor]:
    return [(labels == label).nonzero().flatten() for label in labels.unique()]


def first_of_the_class(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([teacher_logits[labels == label][0] for label in labels])


def last_one_kept(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = teacher_logits.clone()
    for rows in _rows(labels):
        given[rows[:-1]] = teacher_logits[rows[1:]]
    return given


def sorted_by_class(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return torch.cat([teacher_logits[rows.roll(-1)] for rows in _rows(labels)])


def numbers_rolled(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = teacher_logits.clone()
    for rows in _rows(labels):
        given[rows] = teacher_logits[rows].roll(-1)
    return given


def order_reversed(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = teacher_logits.clone()
    for rows in _rows(labels):
        given[rows] = teacher_logits[rows.flip(0)]
    return given


def row_numbers(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = torch.arange(len(labels))
    for rows in _rows(labels):
        given[rows] = rows.roll(-1)
    return given


def read_after_written(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = teacher_logits.clone()
    for rows in _rows(labels):
        for row, following in zip(rows.tolist(), rows.roll(-1).tolist(), strict=True):
            given[row] = given[following]
    return given


def shuffled_in_the_class(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = teacher_logits.clone()
    for rows in _rows(labels):
        given[rows] = teacher_logits[rows[torch.randperm(len(rows))]]
    return given


def placebo_cases() -> list[Case]:
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2, 1])
    return [
        case(draw(4, 2, seed=24), torch.tensor([0, 0, 1, 0])),  # a row alone in its class keeps its logits
        case(draw(9, 3, seed=25), labels),
        case(draw(5, 4, seed=26).float(), torch.tensor([3, 1, 3, 3, 1])),
        case(draw(60, 2, seed=27), torch.arange(60) * 7 % 5 % 3),  # a sort of few rows is stable by chance
    ]


def drawn_placebo(g: torch.Generator) -> Case:
    count, classes = integer(g, 3, 12), integer(g, 2, 5)
    return case(draw(count, classes, seed=g), torch.randint(classes, (count,), generator=g))


EXERCISE = Exercise(
    id="04.8",
    title="a placebo",
    question=(
        "To see whether soft targets must fit *their* image, give each image the teacher's logits of another image of "
        "the same *label*. Write `my_placebo(teacher_logits, labels)`: a tensor whose row k holds the logits of "
        "the next row with its label; the last row of a label gets those of the first. Do not modify "
        "`teacher_logits`."
    ),
    skeleton=(
        "def my_placebo(teacher_logits, labels):\n"
        '    """Each row gets the logits of the next row with the same label."""\n    ...'
    ),
    reference=placebo,
    alternatives=(placebo_by_sorting, placebo_by_looking_ahead),
    cases=placebo_cases,
    drawn=drawn_placebo,
    hints=(
        "What must stay the same, so that only the link between image and target is cut?",
        "For one label: `rows = (labels == label).nonzero().flatten()`. `rows.roll(-1)` are the next ones.",
        "Begin with a clone; for each label `given[rows] = teacher_logits[rows.roll(-1)]`.",
    ),
    misconceptions=(
        Misconception(
            "shuffled across classes",
            across_classes,
            "you move logits across labels. Many targets then favour a wrong class, and the student fails for that "
            "reason: the placebo would prove nothing",
        ),
        Misconception(
            "grouped by what the teacher predicts",
            by_the_named_class,
            "you group by the class that the teacher predicts. Its mistakes then go to images for which they are not "
            "mistakes. Group by label",
        ),
        Misconception(
            "the mean of the class",
            mean_of_the_class,
            "you give every image the mean of its class. That is another question: the spread of the targets is gone "
            "as well, not only their link to the image",
        ),
        Misconception(
            "classes shuffled",
            classes_shuffled,
            "you move the classes within a row. The target then favours another class than the label",
        ),
        Misconception(
            "nothing moved",
            nothing_moved,
            "every row still has its own logits: this is the treatment, not a placebo",
        ),
        Misconception(
            "the row before",
            other_way_round,
            "each row gets the logits of the row *before* it with its label. That is also a placebo, but the question "
            "asks for the next one: `roll(-1)`",
        ),
        Misconception(
            "the first of the class for all",
            first_of_the_class,
            "every image gets the logits of the first image with its label, and that one its own. Go on to the *next*"
            " row",
        ),
        Misconception(
            "the last one kept",
            last_one_kept,
            "the last row of each label keeps its own logits. It gets those of the first: the rows trade in a circle,"
            " which `roll(-1)` does",
        ),
        Misconception(
            "sorted by class",
            sorted_by_class,
            "your rows come label by label, so most are no longer at the position of their image. Write each "
            "back at its row: `given[rows] = ...`",
        ),
        Misconception(
            "numbers rolled, not rows",
            numbers_rolled,
            "`roll(-1)` on a matrix without `dims` moves single numbers across rows, so rows are torn apart. Roll the"
            " row numbers, or say `dims=0`",
        ),
        Misconception(
            "order reversed",
            order_reversed,
            "you reverse the rows of each label. In the middle of an odd number, one row then keeps its own logits: "
            "`roll(-1)`",
        ),
        Misconception(
            "row numbers for logits",
            row_numbers,
            "you return the numbers of the rows. The question asks for the logits at those rows: `teacher_logits[...]`",
        ),
        Misconception(
            "read after it was written",
            read_after_written,
            "you read from the tensor that you are writing to, so the last row gets what the first has become. Read "
            "from `teacher_logits`",
        ),
        Misconception(
            "shuffled within the class",
            shuffled_in_the_class,
            "you shuffle within each label. Some rows keep their own logits by chance, and each run has another "
            "placebo; the question asks for the next row",
        ),
    ),
    shows="a placebo keeps everything but the one thing in question, here the link between image and soft target.",
    derivation="Within a label the rows trade logits in a circle: same targets, same labels, none with its own image.",
)
