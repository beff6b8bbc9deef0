"""16.8 the nearest class mean."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import labels_from


def nearest_mean(features: Tensor, exemplars: Tensor, exemplar_labels: Tensor) -> Tensor:
    known = exemplar_labels.unique()
    means = torch.stack([exemplars[exemplar_labels == c].mean(dim=0) for c in known])
    return known[torch.cdist(features, means).argmin(dim=1)]


def nearest_mean_is_linear(features: Tensor, exemplars: Tensor, exemplar_labels: Tensor) -> Tensor:
    known, places = exemplar_labels.unique(return_inverse=True)
    member = torch.nn.functional.one_hot(places).to(exemplars.dtype)
    means = member.T @ exemplars / member.sum(dim=0)[:, None]
    return known[(features @ means.T - means.square().sum(dim=1) / 2).argmax(dim=1)]


def nearest_mean_by_rows(features: Tensor, exemplars: Tensor, exemplar_labels: Tensor) -> Tensor:
    known = sorted(set(exemplar_labels.tolist()))
    means = {c: exemplars[exemplar_labels == c].mean(dim=0) for c in known}
    return torch.tensor([min(known, key=lambda c: float((row - means[c]).norm())) for row in features])


def _means(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    known = y.unique()
    return known, torch.stack([x[y == c].mean(dim=0) for c in known])


def nearest_exemplar(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return y[torch.cdist(f, x).argmin(dim=1)]


def positions(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(f, _means(x, y)[1]).argmin(dim=1)


def largest_product(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    known, means = _means(x, y)
    return known[(f @ means.T).argmax(dim=1)]


def smallest_angle(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    known, means = _means(x, y)
    return known[torch.nn.functional.cosine_similarity(f[:, None], means, dim=2).argmax(dim=1)]


def zeros_for_the_empty(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    classes = int(y.max()) + 1
    means = torch.stack([x[y == c].sum(dim=0) / max(1, int((y == c).sum())) for c in range(classes)])
    return torch.cdist(f, means).argmin(dim=1)


def sums(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    known = y.unique()
    return known[torch.cdist(f, torch.stack([x[y == c].sum(dim=0) for c in known])).argmin(dim=1)]


def divided_by_all(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    known = y.unique()
    return known[torch.cdist(f, torch.stack([x[y == c].sum(dim=0) / len(x) for c in known])).argmin(dim=1)]


def manhattan(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    known, means = _means(x, y)
    return known[torch.cdist(f, means, p=1).argmin(dim=1)]


def farthest(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    known, means = _means(x, y)
    return known[torch.cdist(f, means).argmax(dim=1)]


def mean_distance(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    known, apart = y.unique(), torch.cdist(f, x)
    return known[torch.stack([apart[:, y == c].mean(dim=1) for c in known], dim=1).argmin(dim=1)]


def first_exemplar(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    known = y.unique()
    return known[torch.cdist(f, torch.stack([x[y == c][0] for c in known])).argmin(dim=1)]


def order_of_arrival(f: Tensor, x: Tensor, y: Tensor) -> Tensor:
    arrived = torch.tensor(list(dict.fromkeys(y.tolist())))
    return arrived[torch.cdist(f, _means(x, y)[1]).argmin(dim=1)]


def means_case(seed: int | torch.Generator, rows: int, counts: dict[int, int], dimensions: int) -> Case:
    """Exemplars of unequal numbers, in general order, around points that have different lengths."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    labels = torch.tensor([c for c, count in counts.items() for _ in range(count)])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centres = draw(max(counts) + 1, dimensions, seed=generator)
    exemplars = centres[labels] + draw(len(labels), dimensions, seed=generator, spread=1.5)
    return case(draw(rows, dimensions, seed=generator), exemplars, labels)


def nearest_cases() -> list[Case]:
    third = means_case(3, 20, {8: 3, 2: 2, 5: 6}, 4)
    return [
        means_case(1, 12, {1: 4, 3: 2, 6: 5}, 2),
        means_case(2, 25, {0: 5, 1: 2, 2: 3}, 3),
        case(*(part.float() if part.is_floating_point() else part for part in third.arguments)),
        means_case(4, 5, {4: 3}, 2),  # one class
        means_case(5, 1, {7: 1, 0: 2}, 3),
    ]


def drawn_nearest(g: torch.Generator) -> Case:
    known = labels_from(list(range(9)), integer(g, 2, 5), g).unique().tolist()
    return means_case(g, integer(g, 4, 20), {c: integer(g, 1, 6) for c in known}, integer(g, 2, 4))


EXERCISE = Exercise(
    id="16.8",
    title="the nearest class mean",
    question=(
        "A memory holds `exemplars` (M, D), the features of some images, and `exemplar_labels` (M,) int64, their "
        "classes. Write `my_nearest_mean(features, exemplars, exemplar_labels)`. For each row of `features` (N, D) it "
        "predicts the class whose exemplars have the nearest mean (Euclidean distance), and returns the classes as a "
        "tensor (N,) of int64. Classes may have unequally many exemplars, and their numbers may have gaps; a class "
        "without exemplars is never predicted."
    ),
    skeleton=(
        "def my_nearest_mean(features, exemplars, exemplar_labels):\n"
        '    """The class whose exemplars have the nearest mean."""\n    ...'
    ),
    reference=nearest_mean,
    alternatives=(nearest_mean_is_linear, nearest_mean_by_rows),
    cases=nearest_cases,
    drawn=drawn_nearest,
    hints=(
        "Which classes are there? Only those get a mean.",
        "`known = exemplar_labels.unique()`, and one mean for each of them.",
        "`torch.cdist(features, means).argmin(dim=1)` is a position in `known`.",
    ),
    misconceptions=(
        Misconception(
            "nearest exemplar",
            nearest_exemplar,
            "you take the class of the nearest single exemplar. Average each class first",
        ),
        Misconception(
            "positions for classes",
            positions,
            "you return positions in the list of classes. The numbers of the classes may have gaps: look them up",
        ),
        Misconception(
            "largest product",
            largest_product,
            "you take the mean with the largest inner product. A long mean then wins everywhere: half its squared "
            "length must be subtracted",
        ),
        Misconception(
            "smallest angle",
            smallest_angle,
            "you compare angles. Features here are not normalised: take the Euclidean distance",
        ),
        Misconception(
            "an empty class at 0",
            zeros_for_the_empty,
            "a class without exemplars gets the mean 0, and is predicted for features near 0. Leave it out",
        ),
        Misconception("sums", sums, "you sum the exemplars of a class. Divide by their number"),
        Misconception(
            "divided by all",
            divided_by_all,
            "you divide each sum by the number of all exemplars. Divide by that of the class",
        ),
        Misconception("Manhattan distance", manhattan, "you sum absolute differences: the distance is Euclidean"),
        Misconception("farthest", farthest, "you take the farthest mean"),
        Misconception(
            "mean of the distances",
            mean_distance,
            "you average the distances to the exemplars. Average the exemplars, then take one distance",
        ),
        Misconception("first exemplar", first_exemplar, "you compare with the first exemplar of each class only"),
        Misconception(
            "order of arrival",
            order_of_arrival,
            "your means are in the order of the class numbers, and you look the class up in the order of arrival",
        ),
    ),
    shows="class means need no training, so a new class takes nothing away from an old one.",
    derivation=("argmin_c ‖f - μ_c‖² = argmax_c (μ_c·f - ‖μ_c‖²/2): a linear classifier whose weights are the means."),
)
