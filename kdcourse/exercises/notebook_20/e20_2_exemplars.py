"""20.2 the images on which two populations disagree."""

from collections import Counter

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer


def exemplars(dense: Tensor, compressed: Tensor) -> Tensor:
    def votes(predictions: torch.Tensor) -> torch.Tensor:
        classes = int(max(dense.max(), compressed.max())) + 1
        counts = torch.stack([(predictions == each).sum(dim=0) for each in range(classes)])  # (C, N)
        most = counts.max(dim=0).values
        return (counts == most).int().argmax(dim=0)  # the first, so the smaller class

    return votes(dense) != votes(compressed)


def exemplars_by_counter(dense: Tensor, compressed: Tensor) -> Tensor:
    def modal(column: Tensor) -> int:
        counts = Counter(column.tolist())
        most = max(counts.values())
        return min(each for each, count in counts.items() if count == most)

    pairs = zip(dense.unbind(dim=1), compressed.unbind(dim=1), strict=True)
    return torch.tensor([modal(one) != modal(other) for one, other in pairs])


def exemplars_by_mode(dense: Tensor, compressed: Tensor) -> Tensor:
    # PyTorch's mode returns the smallest of the most frequent values
    return dense.mode(dim=0).values != compressed.mode(dim=0).values


def _modal(predictions: Tensor, *, largest: bool = False) -> Tensor:
    """(N,): the class with most votes."""
    counts = torch.stack([(predictions == each).sum(dim=0) for each in range(int(predictions.max()) + 1)])
    if largest:
        return len(counts) - 1 - (counts.flip(0) == counts.max(dim=0).values).int().argmax(dim=0)
    return (counts == counts.max(dim=0).values).int().argmax(dim=0)


def by_means(dense: Tensor, compressed: Tensor) -> Tensor:
    return dense.double().mean(dim=0).round() != compressed.double().mean(dim=0).round()


def by_medians(dense: Tensor, compressed: Tensor) -> Tensor:
    return dense.median(dim=0).values != compressed.median(dim=0).values


def first_networks(dense: Tensor, compressed: Tensor) -> Tensor:
    return dense[0] != compressed[0]


def larger_of_equals(dense: Tensor, compressed: Tensor) -> Tensor:
    return _modal(dense, largest=True) != _modal(compressed, largest=True)


def agreeing(dense: Tensor, compressed: Tensor) -> Tensor:
    return _modal(dense) == _modal(compressed)


def any_disagreement(dense: Tensor, compressed: Tensor) -> Tensor:
    both = torch.cat([dense, compressed])
    return (both != both[0]).any(dim=0)


def no_class_shared(dense: Tensor, compressed: Tensor) -> Tensor:
    return (dense[:, None] != compressed).all(dim=1).all(dim=0)


def indices(dense: Tensor, compressed: Tensor) -> Tensor:
    return exemplars(dense, compressed).nonzero().flatten()


def counted(dense: Tensor, compressed: Tensor) -> int:
    return int(exemplars(dense, compressed).sum())


def against_every_compressed_one(dense: Tensor, compressed: Tensor) -> Tensor:
    return (_modal(dense) != compressed).any(dim=0)


def most_compressed_ones(dense: Tensor, compressed: Tensor) -> Tensor:
    return (_modal(dense) != compressed).double().mean(dim=0) > 0.5


def along_the_images(dense: Tensor, compressed: Tensor) -> Tensor:
    one, other = _modal(dense.T), _modal(compressed.T)
    count = min(len(one), len(other))
    return one[:count] != other[:count]


def exemplar_cases() -> list[Case]:
    #                       tie, tie    changed  minority  votes 2:1:1    votes 2:2 against 3:1
    dense = torch.tensor([[3, 5, 7, 1, 0, 9, 2], [3, 2, 7, 1, 0, 4, 2], [1, 2, 7, 8, 6, 4, 8], [1, 5, 2, 8, 9, 0, 8]])
    other = torch.tensor([[1, 2, 2, 8, 0, 9, 8], [1, 5, 2, 1, 0, 9, 8], [4, 7, 2, 1, 5, 4, 8]])
    many = torch.tensor([[4, 9, 9, 0], [4, 4, 9, 0], [9, 4, 4, 7], [9, 9, 4, 7], [7, 8, 7, 7], [1, 4, 4, 3]])
    low, high = torch.tensor([[0, 1, 0], [0, 1, 2]]), torch.tensor([[8, 1, 8], [8, 1, 0], [8, 2, 8]])
    return [
        case(dense, other),
        case(other, dense),
        case(many, many.flip(1)),
        case(low, high),
        case(high.clone(), low.clone()),
        case(torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 2], [0, 1, 1]])),
        case(many, many.clone()),
    ]


def drawn_exemplars(g: torch.Generator) -> Case:
    images, classes = integer(g, 5, 12), integer(g, 3, 6)
    parts = [torch.randint(classes, (integer(g, 3, 7), images), generator=g) for _ in range(2)]
    return case(*parts)


EXERCISE = Exercise(
    id="20.2",
    title="the images on which two populations disagree",
    question=(
        "`dense` (K, N) and `compressed` (J, N) are the classes that K dense and J compressed networks predict for the "
        "same N images, int64. The modal prediction of a population is the class that most of its networks predict; "
        "of equally many the smaller class number. Write `my_exemplars(dense, compressed)`: a boolean tensor (N,) that "
        "is True where the two modal predictions differ. These images are the *pruning-identified exemplars* of Hooker "
        "et al. Neither K and J nor the classes that occur need to be the same."
    ),
    skeleton=(
        "def my_exemplars(dense, compressed):\n"
        '    """Where the modal predictions of two populations of networks differ."""\n    ...'
    ),
    reference=exemplars,
    alternatives=(exemplars_by_counter, exemplars_by_mode),
    cases=exemplar_cases,
    drawn=drawn_exemplars,
    hints=(
        "One network that differs from another may be luck. What do most of the K networks say?",
        "Count, for each image, how many networks predict each class; `argmax` over the classes.",
        "Of equal counts the smaller class: `torch.mode(predictions, dim=0).values` keeps that rule.",
    ),
    misconceptions=(
        Misconception(
            "the mean of class numbers",
            by_means,
            "you average class numbers. The mean of a 3 and a 9 is a 6, and nobody predicted that. Count votes",
        ),
        Misconception(
            "the median of class numbers",
            by_medians,
            "you take the median of class numbers. Classes have no order; count votes",
        ),
        Misconception(
            "one network of each",
            first_networks,
            "you compare the first networks of the two populations. Two seeds differ as well; populations are there to "
            "average that out",
        ),
        Misconception(
            "the larger of equals",
            larger_of_equals,
            "correct but for ties: of equally many votes the smaller class number wins",
        ),
        Misconception(
            "where they agree",
            agreeing,
            "this is True where the modal predictions *agree*",
        ),
        Misconception(
            "any disagreement",
            any_disagreement,
            "this is True as soon as any two networks disagree, even two of the same population. Such images are hard, "
            "but compression did not do it",
        ),
        Misconception(
            "no class in common",
            no_class_shared,
            "this is True where no dense network agrees with any compressed one. Compare the two majorities only",
        ),
        Misconception(
            "indices",
            indices,
            "these are the numbers of the images. The question asks for a boolean for each image",
        ),
        Misconception(
            "their number",
            counted,
            "this is how many there are. The question asks for a boolean for each image",
        ),
        Misconception(
            "against every compressed network",
            against_every_compressed_one,
            "you compare the dense majority with each compressed network on its own: one odd network makes an exemplar",
        ),
        Misconception(
            "more than half of the compressed ones",
            most_compressed_ones,
            "you ask whether most compressed networks differ from the dense majority. They may differ from it in "
            "different ways, and the dense class may still have most votes",
        ),
        Misconception(
            "votes along the images",
            along_the_images,
            "you count along the images. Networks are in dimension 0: each image gets the votes of its column",
        ),
    ),
    shows="what the seeds of a population do at random cancels out in its majority.",
    derivation=(
        "An image on which the networks vote by a narrow margin changes its modal class with other seeds. So count the "
        "exemplars of two dense populations as well: that number is the null, not 0."
    ),
    points=2,
)
