"""19.6 a teacher with more classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def fold(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    sums = torch.stack([probabilities[:, kinds == kind].sum(dim=1) for kind in range(count)], dim=1)  # (N, count)
    total = sums.sum(dim=1, keepdim=True)
    nothing = total == 0
    return torch.where(nothing, 1 / count, sums / torch.where(nothing, 1, total))


def fold_by_matrix(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    belongs = (kinds[:, None] == torch.arange(count)).to(probabilities.dtype)  # (C, count), a row of zeros for -1
    sums = probabilities @ belongs
    folded = sums / sums.sum(dim=1, keepdim=True)
    return folded.nan_to_num(nan=1 / count)


def fold_by_adding(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    kept = kinds != -1
    folded = probabilities.new_zeros(len(probabilities), count)
    folded = folded.index_add(1, kinds[kept], probabilities[:, kept])
    for row in folded:
        if row.sum() > 0:
            row /= row.sum()
        else:
            row[:] = 1 / count
    return folded


def _sums(probabilities: Tensor, kinds: Tensor, count: int) -> Tensor:
    return torch.stack([probabilities[:, kinds == kind].sum(dim=1) for kind in range(count)], dim=1)


def _divided(values: Tensor) -> Tensor:
    """Each row divided by its sum, or uniform where that is 0."""
    total = values.sum(dim=1, keepdim=True)
    return torch.where(total == 0, 1 / values.shape[1], values / torch.where(total == 0, 1, total))


def largest_of_a_kind(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    zero = probabilities.new_zeros(len(probabilities), 1)
    columns = [torch.cat([probabilities[:, kinds == kind], zero], dim=1).amax(dim=1) for kind in range(count)]
    return _divided(torch.stack(columns, dim=1))


def mean_of_a_kind(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    sizes = torch.stack([(kinds == kind).sum() for kind in range(count)]).clamp(min=1)
    return _divided(_sums(probabilities, kinds, count) / sizes)


def first_of_a_kind(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    first = [k for k in range(len(kinds)) if kinds[k] not in kinds[:k]]
    return fold(probabilities[:, first], kinds[first], count=count)


def last_of_a_kind(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    folded = probabilities.new_zeros(len(probabilities), count)
    for column, kind in enumerate(kinds.tolist()):
        if kind >= 0:
            folded[:, kind] = probabilities[:, column]
    return _divided(folded)


def not_divided(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    return _sums(probabilities, kinds, count)


def softmax_again(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    return _sums(probabilities, kinds, count).softmax(dim=1)


def rest_spread_evenly(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    sums = _sums(probabilities, kinds, count)
    return sums + (1 - sums.sum(dim=1, keepdim=True)) / count


def rest_to_the_last(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    return _divided(_sums(probabilities, kinds % count, count))


def rest_to_the_first(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    return _divided(_sums(probabilities, kinds.clamp(min=0), count))


def nan_for_nothing(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    sums = _sums(probabilities, kinds, count)
    return sums / sums.sum(dim=1, keepdim=True)


def zeros_for_nothing(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    sums = _sums(probabilities, kinds, count)
    total = sums.sum(dim=1, keepdim=True)
    return sums / torch.where(total == 0, 1, total)


def divided_by_the_column(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    sums = _sums(probabilities, kinds, count)
    total = sums.sum(dim=0)
    return sums / torch.where(total == 0, 1, total)


def a_little_added(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    return _divided(_sums(probabilities, kinds, count) + 1e-3)


def one_hot(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    best = F.one_hot(fold(probabilities, kinds, count=count).argmax(dim=1), count)
    return best.to(probabilities.dtype)


def only_the_best_class(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    best = kinds[probabilities.argmax(dim=1)]
    return torch.where(best[:, None] < 0, 1 / count, (best[:, None] == torch.arange(count)).to(probabilities.dtype))


def only_used_kinds(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    return fold(probabilities, kinds, count=max(1, int(kinds.max()) + 1))


def the_first_classes(probabilities: Tensor, kinds: Tensor, *, count: int) -> Tensor:
    return _divided(F.pad(probabilities, (0, max(0, count - len(kinds))))[:, :count])


def _probabilities(g: torch.Generator, rows: int, classes: int) -> Tensor:
    return draw(rows, classes, seed=g, spread=1.5).softmax(dim=1)


def fold_cases() -> list[Case]:
    g = torch.Generator().manual_seed(1)
    small = torch.tensor([[0.3, 0.25, 0.25, 0.2], [0.1, 0.1, 0.2, 0.6]])
    kinds = torch.tensor([1, 0, 0, -1])
    certain = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 0.5, 0.0, 0.5]])
    wide = _probabilities(g, 4, 9)
    return [
        case(small, kinds, count=2),
        case(certain, kinds, count=2),
        case(certain.double(), torch.tensor([2, 0, 0, -1]), count=4),
        case(wide, torch.tensor([3, -1, 0, 3, 1, 0, -1, 3, 5]), count=6),
        case(wide, torch.tensor([0, 1, 2, 0, 1, 2, 2, 2, 2]), count=3),  # no class is left out
        case(wide.float(), torch.tensor([-1, 2, -1, 1, 1, -1, -1, 0, 2]), count=5),
        case(wide[:1], torch.tensor([0, -1, -1, -1, 0, 1, -1, -1, 1]), count=2),
        case(
            1e-6 * certain.double() + torch.tensor([[0.0, 0.0, 0.0, 1 - 1e-6], [0.0, 0.0, 0.0, 1 - 1e-6]]),
            kinds,
            count=2,
        ),
        case(small.double(), torch.tensor([-1, -1, -1, -1]), count=3),
        case(small.double(), torch.tensor([2, 1, 0, 3]), count=4),
    ]


def drawn_fold(g: torch.Generator) -> Case:
    count, classes = integer(g, 2, 5), integer(g, 6, 12)
    kinds = torch.randint(-1, count, (classes,), generator=g)
    kinds[:2] = torch.tensor([0, -1])
    return case(_probabilities(g, integer(g, 2, 5), classes), kinds, count=count)


EXERCISE = Exercise(
    id="19.6",
    title="a teacher with more classes",
    question=(
        "A teacher tells C classes of files apart, a student only `count` kinds. `probabilities` (N, C) are the "
        "teacher's for N files; each row sums to 1. `kinds` (C,) of integers says of which kind each class is, "
        "from 0 to `count` - 1, or -1 if it belongs to none. Write `my_fold(probabilities, kinds, *, count)`: the "
        "soft targets of the student, a tensor (N, count) of the dtype of `probabilities`. Add up the probabilities "
        "of all classes of a kind; leave out the classes with -1; then divide each row by its own sum. A kind without "
        "a class gets 0. A row of which nothing is left, because that sum is exactly 0, gets 1 / `count` for each of "
        "the `count` kinds."
    ),
    skeleton=(
        "def my_fold(probabilities, kinds, *, count):\n"
        '    """The teacher\'s probabilities of the student\'s kinds: (N, count), each row sums to 1."""\n    ...'
    ),
    reference=fold,
    alternatives=(fold_by_matrix, fold_by_adding),
    cases=fold_cases,
    drawn=drawn_fold,
    hints=(
        "A file is source code if it is Python *or* C *or* Java: what happens to the probabilities of alternatives?",
        "Which columns are of kind k? `probabilities[:, kinds == k].sum(dim=1)`; no column has the kind -1 for any k "
        "from 0 on. Then look at the sum of each row.",
        "Stack the sums for k in `range(count)`; divide by `total = sums.sum(dim=1, keepdim=True)`; "
        "`torch.where(total == 0, 1 / count, …)` for rows with nothing left.",
    ),
    misconceptions=(
        Misconception(
            "the largest of a kind",
            largest_of_a_kind,
            "you take the largest probability among a kind's classes. Ten kinds of source code at 0.06 each are 0.6 "
            "of source code: alternatives add up",
        ),
        Misconception(
            "the mean of a kind",
            mean_of_a_kind,
            "you take the mean over a kind's classes, so that a kind with many classes can hardly win. Probabilities "
            "of alternatives add up",
        ),
        Misconception(
            "the first class of a kind",
            first_of_a_kind,
            "you count only the first class of each kind. All its classes add up",
        ),
        Misconception(
            "the last class of a kind",
            last_of_a_kind,
            "of several classes of a kind only the last counts: each assignment to `folded[:, kind]` overwrites the "
            "one before, also if it reads `folded[:, kinds] += …`. Add them, as `index_add` does",
        ),
        Misconception(
            "not divided",
            not_divided,
            "you return the sums as they are. What belongs to none of our kinds is missing, so a row does not sum to "
            "1: divide each row by its sum, and take 1 / `count` where nothing is left",
        ),
        Misconception(
            "a softmax",
            softmax_again,
            "you take a softmax of probabilities. It makes them nearly equal; divide each row by its sum",
        ),
        Misconception(
            "the rest spread evenly",
            rest_spread_evenly,
            "you spread what belongs to none of our kinds evenly over all. Then a kind without a class gets "
            "something, and the ratios of the others change: divide each row by its sum",
        ),
        Misconception(
            "-1 is the last kind",
            rest_to_the_last,
            "the classes with -1 are added to the last kind: Python counts from the end, and no error tells you. "
            "Leave them out first",
        ),
        Misconception(
            "-1 is kind 0",
            rest_to_the_first,
            "the classes with -1 are added to kind 0, perhaps by a clamp. Leave them out",
        ),
        Misconception(
            "NaN for nothing left",
            nan_for_nothing,
            "where nothing is left you divide 0 by 0. One such file makes the loss of its batch NaN: it gets 1 / "
            "`count` for each kind",
        ),
        Misconception(
            "zeros for nothing left",
            zeros_for_nothing,
            "where nothing is left your row is zero, which is not a distribution. It gets 1 / `count` for each kind",
        ),
        Misconception(
            "each column divided",
            divided_by_the_column,
            "you divide each column by its sum over the files (dimension 0). What a file gets then depends on its "
            "batch: the rows are the distributions",
        ),
        Misconception(
            "a little added",
            a_little_added,
            "you add a small number to every kind, perhaps to avoid 0 / 0. Then a kind without a class is not 0, and "
            "small probabilities are lost in it",
        ),
        Misconception(
            "one-hot",
            one_hot,
            "this is 1 for the most probable kind and 0 elsewhere: a label. A soft target keeps the probabilities",
        ),
        Misconception(
            "only the best class",
            only_the_best_class,
            "you take the best class first and then its kind. A kind with many classes of moderate probability is "
            "missed: add first",
        ),
        Misconception(
            "the width of the used kinds",
            only_used_kinds,
            "your result ends with the largest kind that has a class. The student has `count` outputs; those without "
            "a class get 0",
        ),
        Misconception(
            "the first classes",
            the_first_classes,
            "you take the first `count` classes. Which class is of which kind stands in `kinds`",
        ),
    ),
    shows="a teacher with other classes than the student's still gives soft targets, once its classes are added up.",
    derivation=(
        "Classes exclude each other, so P(kind) = Σ P(class) over its classes, and P(kind | one of ours) = P(kind) / "
        "Σ P(kinds). The largest class need not be of the largest kind: with 0.3 for one kind and 0.25 + 0.25 for "
        "another the sums say 0.3 and 0.5."
    ),
    absolute=1e-6,
)
