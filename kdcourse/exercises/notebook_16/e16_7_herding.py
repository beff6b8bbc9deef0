"""16.7 examples that stand for a class."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal


def herding(features: Tensor, count: int) -> Tensor:
    if count > len(features):
        raise ValueError(f"{count} of {len(features)}")
    mean, total = features.mean(dim=0), torch.zeros_like(features[0])
    chosen: list[int] = []
    for number in range(1, count + 1):
        distances = (mean - (total + features) / number).norm(dim=1)
        distances[chosen] = torch.inf
        chosen.append(int(distances.argmin()))
        total = total + features[chosen[-1]]
    return torch.tensor(chosen, dtype=torch.int64)


def herding_by_trying(features: Tensor, count: int) -> Tensor:
    if not count <= len(features):
        raise ValueError("more than there are")
    chosen: list[int] = []
    rest = list(range(len(features)))
    for _ in range(count):

        def distance(index: int) -> float:
            return (features[[*chosen, index]].mean(dim=0) - features.mean(dim=0)).square().sum().item()

        best = min(rest, key=distance)
        rest.remove(best)
        chosen.append(best)
    return torch.tensor(chosen, dtype=torch.int64)


def herding_of_the_centred(features: Tensor, count: int) -> Tensor:
    if count > len(features):
        raise ValueError("too many")
    rows = features - features.mean(dim=0)
    taken = torch.zeros(len(rows), dtype=torch.bool)
    order = torch.empty(count, dtype=torch.int64)
    for place in range(count):
        off = (rows + rows[taken].sum(dim=0)).square().sum(dim=1).masked_fill(taken, torch.inf)
        order[place] = off.argmin()
        taken[order[place]] = True
    return order


def nearest_to_the_mean(f: Tensor, count: int) -> Tensor:
    return (f - f.mean(dim=0)).norm(dim=1).argsort()[:count]


def farthest_from_the_mean(f: Tensor, count: int) -> Tensor:
    return (f - f.mean(dim=0)).norm(dim=1).argsort(descending=True)[:count]


def the_first(f: Tensor, count: int) -> Tensor:
    return torch.arange(len(f))[:count]


def _greedy(f: Tensor, count: int, off: object, *, twice: bool = False) -> Tensor:
    chosen: list[int] = []
    for _ in range(count):
        distances = off(chosen)  # type: ignore[operator]
        if not twice:
            distances[chosen] = torch.inf
        chosen.append(int(distances.argmin()))
    return torch.tensor(chosen, dtype=torch.int64)


def one_twice(f: Tensor, count: int) -> Tensor:
    mean = f.mean(dim=0)

    def off(chosen: list[int]) -> Tensor:
        return (mean - (f[chosen].sum(dim=0) + f) / (len(chosen) + 1)).norm(dim=1)

    return _greedy(f, count, off, twice=True)


def not_divided(f: Tensor, count: int) -> Tensor:
    return _greedy(f, count, lambda chosen: (f.mean(dim=0) - f[chosen].sum(dim=0) - f).norm(dim=1))


def divided_by_one_less(f: Tensor, count: int) -> Tensor:
    mean = f.mean(dim=0)

    def off(chosen: list[int]) -> Tensor:
        return (mean - f - f[chosen].sum(dim=0) / max(1, len(chosen))).norm(dim=1)

    return _greedy(f, count, off)


def mean_of_what_is_left(f: Tensor, count: int) -> Tensor:
    def off(chosen: list[int]) -> Tensor:
        left = [row for row in range(len(f)) if row not in chosen]
        return (f[left].mean(dim=0) - f).norm(dim=1)

    return _greedy(f, count, off)


def farthest_from_the_chosen(f: Tensor, count: int) -> Tensor:
    def off(chosen: list[int]) -> Tensor:
        if not chosen:
            return (f - f.mean(dim=0)).norm(dim=1)
        return -torch.cdist(f, f[chosen]).amin(dim=1)

    return _greedy(f, count, off)


def median(f: Tensor, count: int) -> Tensor:
    centre = f.quantile(0.5, dim=0)
    return _greedy(f, count, lambda c: (centre - (f[c].sum(dim=0) + f) / (len(c) + 1)).norm(dim=1))


def manhattan(f: Tensor, count: int) -> Tensor:
    mean = f.mean(dim=0)
    return _greedy(f, count, lambda c: (mean - (f[c].sum(dim=0) + f) / (len(c) + 1)).abs().sum(dim=1))


def normalised(f: Tensor, count: int) -> Tensor:
    return herding(torch.nn.functional.normalize(f), count)


def sorted_indices(f: Tensor, count: int) -> Tensor:
    return herding(f, count).sort().values


def reversed_order(f: Tensor, count: int) -> Tensor:
    return herding(f, count).flip(0)


def the_rows(f: Tensor, count: int) -> Tensor:
    return f[herding(f, count)]


def all_that_are_there(f: Tensor, count: int) -> Tensor:
    return herding(f, min(count, len(f)))


def herding_cases() -> list[Case]:
    return [
        case(draw(6, 2, seed=1) + 1.0, 4),
        case(draw(9, 3, seed=2) + torch.tensor([4.0, 0.0, -1.0]), 6),
        case(draw(5, 4, seed=3), 5),
        case(draw(4, 2, seed=4), 0),
        case((draw(12, 5, seed=5) - 2.0).float(), 7),
        case(draw(1, 3, seed=6), 1),
        refusal("a count above N", draw(3, 2, seed=7), 4),
    ]


def drawn_herding(g: torch.Generator) -> Case:
    count = integer(g, 3, 14)
    return case(draw(count, integer(g, 1, 4), seed=g) + 2.0, integer(g, 1, count))


EXERCISE = Exercise(
    id="16.7",
    title="examples that stand for a class",
    question=(
        "`features` (N, D) are the features of all images of one class. Write `my_herding(features, count)`, which "
        "chooses `count` of them one after another, so that after each choice the mean of all chosen is as near as "
        "possible (Euclidean distance) to the mean of all N. No image is chosen twice. Return the indices in the order "
        "of choice, a tensor (count,) of int64; `count` may be 0. Raise a `ValueError` if `count` is above N. Take the "
        "features as they are, and do not modify them."
    ),
    skeleton=(
        "def my_herding(features, count):\n"
        '    """Indices of the examples whose mean stays nearest to the mean of all."""\n    ...'
    ),
    reference=herding,
    alternatives=(herding_by_trying, herding_of_the_centred),
    cases=herding_cases,
    drawn=drawn_herding,
    hints=(
        "The second choice depends on the first: if that one lies to the left of the mean, the next should lie to the "
        "right.",
        "Keep the sum of the chosen. For the k-th choice compare `(total + features) / k` with the mean.",
        "Set the distance of what is chosen to infinity, in the distances and not in `features`.",
    ),
    misconceptions=(
        Misconception(
            "nearest to the mean",
            nearest_to_the_mean,
            "you take the images nearest to the mean, each on its own. They resemble each other, and their mean need "
            "not be near. The same comes out if the sum of the chosen stays 0 by mistake",
        ),
        Misconception("farthest from the mean", farthest_from_the_mean, "you take the images farthest from the mean"),
        Misconception("the first ones", the_first, "you take the first images, whatever their features are"),
        Misconception(
            "one twice",
            one_twice,
            "an image can be chosen again (a public iCaRL had such duplicates: its line that removes the chosen was "
            "commented out). Leave the chosen out",
        ),
        Misconception(
            "not divided",
            not_divided,
            "you compare the *sum* of the chosen with the mean: it is k times too large. Divide by k",
        ),
        Misconception(
            "only the old ones divided",
            divided_by_one_less,
            "you add the new image to the mean of the earlier ones. Divide the sum of all k by k",
        ),
        Misconception(
            "mean of what is left",
            mean_of_what_is_left,
            "you compare with the mean of the images that are left. It is the mean of all N throughout",
        ),
        Misconception(
            "farthest from the chosen",
            farthest_from_the_chosen,
            "you take the image farthest from those chosen. They spread over the class, but their mean is not kept "
            "near",
        ),
        Misconception("the median", median, "you compare with the median of each feature, not with the mean"),
        Misconception("Manhattan distance", manhattan, "you sum absolute differences: the distance is Euclidean"),
        Misconception(
            "normalised",
            normalised,
            "you normalise the features first, as the paper does. Here they are taken as they are",
        ),
        Misconception(
            "sorted",
            sorted_indices,
            "you sort the indices. The order of choice matters: a memory that must shrink drops the last ones",
        ),
        Misconception(
            "reversed", reversed_order, "the last choice comes first: return the indices in the order of choice"
        ),
        Misconception("rows in place of indices", the_rows, "you return the features. Return the indices"),
        Misconception(
            "fewer than asked for",
            all_that_are_there,
            "correct but for a `count` above N: refuse it with a `ValueError`",
        ),
    ),
    shows="a few examples can have almost the mean of all, if each makes up for those before it.",
    derivation=(
        "p_k = argmin_x ‖μ - (x + Σ_{j<k} p_j) / k‖ (Rebuffi et al. 2017, algorithm 4). With centred features that is "
        "argmin ‖x + Σ p_j‖."
    ),
)
