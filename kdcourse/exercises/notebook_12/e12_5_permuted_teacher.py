"""12.5 dark knowledge, permuted."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def permuted_teacher(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    permuted = teacher_logits.clone()
    for row, label in enumerate(labels.tolist()):
        wrong = [c for c in range(teacher_logits.shape[1]) if c != label]
        permuted[row, wrong] = teacher_logits[row, wrong].roll(1)
    return permuted


def permuted_by_mask(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    count, classes = teacher_logits.shape
    wrong = torch.arange(classes) != labels[:, None]
    moved = teacher_logits[wrong].reshape(count, classes - 1).roll(1, dims=1)
    return teacher_logits.masked_scatter(wrong, moved)


def permuted_by_index(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    classes = teacher_logits.shape[1]
    own = torch.arange(classes)
    label = labels[:, None]
    source = (own - 1) % classes
    source = torch.where(source == label, (own - 2) % classes, source)
    return teacher_logits.gather(1, torch.where(own == label, own, source))


def each(teacher_logits: Tensor, labels: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The logits of each row's wrong classes, in class order, changed together."""
    permuted = teacher_logits.clone()
    for row, label in enumerate(labels.tolist()):
        wrong = [c for c in range(teacher_logits.shape[1]) if c != label]
        permuted[row, wrong] = change(teacher_logits[row, wrong])
    return permuted


def whole_row_moved(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return teacher_logits.roll(1, dims=1)


def label_written_over(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    permuted, rows = teacher_logits.roll(1, dims=1), torch.arange(len(labels))
    permuted[rows, labels] = teacher_logits[rows, labels]
    return permuted


def by_the_predicted_class(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return permuted_teacher(teacher_logits, teacher_logits.argmax(dim=1))


def largest_to_the_label(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    swapped, rows, top = teacher_logits.clone(), torch.arange(len(labels)), teacher_logits.argmax(dim=1)
    swapped[rows, top], swapped[rows, labels] = teacher_logits[rows, labels], teacher_logits[rows, top]
    return permuted_teacher(swapped, labels)


def other_way_round(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return each(teacher_logits, labels, lambda wrong: wrong.roll(-1))


def across_rows(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return teacher_logits.roll(1, dims=0)


def in_one_long_row(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    wrong = torch.arange(teacher_logits.shape[1]) != labels[:, None]
    return teacher_logits.masked_scatter(wrong, teacher_logits[wrong].roll(1))


def rows_of_wrong_classes_moved(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    wrong = torch.arange(teacher_logits.shape[1]) != labels[:, None]
    return teacher_logits.masked_scatter(wrong, teacher_logits[wrong].reshape(len(labels), -1).roll(1, dims=0))


def mean_of_the_wrong(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return each(teacher_logits, labels, lambda wrong: wrong.mean().expand_as(wrong))


def turned_round(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return each(teacher_logits, labels, lambda wrong: wrong.flip(0))


def sorted_up(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return each(teacher_logits, labels, lambda wrong: wrong.sort().values)


def sorted_down(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return each(teacher_logits, labels, lambda wrong: wrong.sort(descending=True).values)


def nothing_moved(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return teacher_logits.clone()


def last_one_lost(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return each(teacher_logits, labels, lambda wrong: torch.cat([wrong[:1], wrong[:-1]]))


def label_first(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    wrong = torch.arange(teacher_logits.shape[1]) != labels[:, None]
    moved = teacher_logits[wrong].reshape(len(labels), -1).roll(1, dims=1)
    return torch.cat([teacher_logits.gather(1, labels[:, None]), moved], dim=1)


def probabilities(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return permuted_teacher(teacher_logits, labels).softmax(dim=1)


def wrong_classes_alone(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    wrong = torch.arange(teacher_logits.shape[1]) != labels[:, None]
    return teacher_logits[wrong].reshape(len(labels), -1).roll(1, dims=1)


def permuted_cases() -> list[Case]:
    row = torch.tensor([[5.0, 1.0, 2.0, 3.0]], dtype=torch.float64)
    return [
        case(row, torch.tensor([0])),
        case(draw(4, 4, seed=135), torch.tensor([1, 3, 0, 2])),
        case(draw(3, 2, seed=136), torch.tensor([1, 0, 1])),  # one wrong class: nothing can move
        case(draw(6, 5, seed=137).float(), torch.tensor([4, 4, 0, 2, 1, 3])),
    ]


def drawn_permuted(g: torch.Generator) -> Case:
    count, classes = integer(g, 1, 6), integer(g, 2, 7)
    return case(draw(count, classes, seed=g), torch.randint(classes, (count,), generator=g))


EXERCISE = Exercise(
    id="12.5",
    title="dark knowledge, permuted",
    question=(
        "Does a student profit from *which* wrong classes its teacher finds likely? A placebo keeps everything else. "
        "Write `my_permuted_teacher(teacher_logits, labels)` for logits of shape (N, C): a tensor in which each row "
        "keeps the logit of its label, and the logits of its other classes have moved: in class order, each moves to "
        "the next wrong class, and the last one to the first wrong class. With label 0, the row [5, 1, 2, 3] becomes "
        "[5, 3, 1, 2]. Do not modify `teacher_logits`."
    ),
    skeleton=(
        "def my_permuted_teacher(teacher_logits, labels):\n"
        '    """The logits of the wrong classes moved one place on, those of the labels kept."""\n    ...'
    ),
    reference=permuted_teacher,
    alternatives=(permuted_by_mask, permuted_by_index),
    cases=permuted_cases,
    drawn=drawn_permuted,
    hints=(
        "The same numbers in each row, at other classes; one of them may not move. Which?",
        "For one row: `wrong = [c for c in range(C) if c != label]`. Their logits move in a circle.",
        "Begin with a clone; for each row `permuted[row, wrong] = teacher_logits[row, wrong].roll(1)`.",
    ),
    misconceptions=(
        Misconception(
            "the label moved too",
            whole_row_moved,
            "you move the whole row, so the target favours a wrong class. The student then fails for that reason: the "
            "logit of the label keeps its position",
        ),
        Misconception(
            "the label's logit written over a neighbour's",
            label_written_over,
            "you move the whole row and then write the label's logit back. It is now in the row twice, and one wrong "
            "class's logit is lost: leave the label out of the circle",
        ),
        Misconception(
            "the predicted class kept",
            by_the_predicted_class,
            "you keep the class that the teacher predicts, as the published control does. Where the teacher is wrong, "
            "the logit of the label then moves. Here `labels` say which one stays",
        ),
        Misconception(
            "the largest logit for the label",
            largest_to_the_label,
            "you give the label the largest logit. That corrects the teacher's mistakes, which is another change; the "
            "label keeps its own logit, large or small",
        ),
        Misconception(
            "the other way round",
            other_way_round,
            "you move each logit to the wrong class *before*. That is also a placebo, but the question asks for the "
            "next one: `roll(1)`",
        ),
        Misconception(
            "moved across rows",
            across_rows,
            "you move whole rows to other images. Here each image keeps its own numbers, and only the classes change",
        ),
        Misconception(
            "one long row",
            in_one_long_row,
            "picking with a mask puts the wrong classes of all rows into one long row, and `roll` moves numbers from "
            "one image to the next. Give it the shape (N, C - 1) first, and roll along `dim=1`",
        ),
        Misconception(
            "wrong classes of another row",
            rows_of_wrong_classes_moved,
            "each row gets the wrong classes of the row before. Here each image keeps its own numbers: roll along the "
            "classes",
        ),
        Misconception(
            "the mean of the wrong classes",
            mean_of_the_wrong,
            "you give all wrong classes their mean. That is another control: the spread among them is gone too, not "
            "only its assignment to classes",
        ),
        Misconception(
            "the order turned round",
            turned_round,
            "you turn the order of the wrong classes round. With an odd number of them the middle one does not move; "
            "move all one place on",
        ),
        Misconception(
            "sorted",
            sorted_up,
            "you sort the logits of the wrong classes. Then classes with high numbers always get large logits, so the "
            "target carries something new; move them one place on",
        ),
        Misconception(
            "sorted from the largest",
            sorted_down,
            "you sort the logits of the wrong classes from the largest. Then classes with low numbers always get "
            "large logits, so the target carries something new; move them one place on",
        ),
        Misconception(
            "nothing moved",
            nothing_moved,
            "every class still has its own logit: this is the treatment, not a placebo",
        ),
        Misconception(
            "the last one lost",
            last_one_lost,
            "the first wrong class keeps its logit, and that of the last is lost. They move in a circle: the last one "
            "goes to the first wrong class",
        ),
        Misconception(
            "the label first",
            label_first,
            "your rows begin with the logit of the label. It stays at the position of its class",
        ),
        Misconception(
            "probabilities",
            probabilities,
            "you return probabilities. The question asks for logits",
        ),
        Misconception(
            "the label left out",
            wrong_classes_alone,
            "your rows have the wrong classes alone. Write them back to their positions, beside the label's logit",
        ),
    ),
    shows="the label's probability, the largest wrong one and the entropy stay; only which class is similar is lost.",
    derivation=(
        "A permutation of a row's wrong classes changes no sum over classes: log-sum-exp, the probability of the "
        "label and the entropy are the same at every temperature. What differs in training can only come from which "
        "wrong class has which probability."
    ),
)
