"""11.5 whether the same patterns occur."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw
from .common import drawn_maps, mean_kernel, table
from .wrong_11_5 import WRONG


def mmd_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    student = F.normalize(student_maps.flatten(2), dim=2)
    teacher = F.normalize(teacher_maps.detach().flatten(2), dim=2)
    within = mean_kernel(student, student) + mean_kernel(teacher, teacher)
    return (within - 2 * mean_kernel(student, teacher)).mean()


def mmd_by_outer_products(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    means = []
    for maps in (student_maps, teacher_maps.detach()):
        channels = maps.flatten(2)
        length = channels.norm(dim=2, keepdim=True)
        channels = channels / torch.where(length == 0, 1.0, length)
        means.append(channels.transpose(1, 2) @ channels / channels.shape[1])
    return ((means[0] - means[1]) ** 2).sum() / len(student_maps)


def mmd_pair_by_pair(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    costs = []
    for student, teacher in zip(student_maps, teacher_maps.detach(), strict=True):
        s, t = ([_scaled(channel.flatten()) for channel in side] for side in (student, teacher))
        costs.append(_average(s, s) + _average(t, t) - _average(s, t) - _average(t, s))
    return torch.stack(costs).mean()


def _scaled(vector: Tensor) -> Tensor:
    return vector / vector.norm() if vector.any() else vector


def _average(first: list[Tensor], second: list[Tensor]) -> Tensor:
    return torch.stack([torch.dot(x, y) ** 2 for x in first for y in second]).mean()


def mmd_cases() -> list[Case]:
    student = table([[1.0, 2.0], [-3.0, 0.5]]).reshape(1, 2, 1, 2)
    teacher = table([[0.5, 1.0], [2.0, -1.0], [1.0, 4.0]]).reshape(1, 3, 1, 2)
    dead = draw(2, 3, 2, 3, seed=5)
    dead[1, 2] = 0.0
    dark = draw(3, 3, 2, 2, seed=7)
    dark[0, 1] = 0.0
    return [
        case(student, teacher),
        case(draw(3, 4, 3, 2, seed=1), draw(3, 4, 3, 2, seed=2).relu()),
        case(draw(2, 3, 3, 3, seed=3).float(), draw(2, 5, 3, 3, seed=4).float()),
        case(dead, draw(2, 4, 2, 3, seed=6)),  # a channel that is active nowhere
        case(draw(3, 2, 2, 2, seed=8), dark),
        case(draw(2, 3, 2, 2, seed=9, spread=0.35), draw(2, 1, 2, 2, seed=10, spread=0.35)),  # hardly active
    ]


EXERCISE = Exercise(
    id="11.5",
    title="whether the same patterns occur",
    question=(
        "Take each channel of an example's map as one sample: the vector of its H·W positions, scaled to length 1 (a "
        "channel of zeros stays zeros, its gradient is 0). With the kernel $k(x, y) = (x^\\top y)^2$, an example's "
        "squared maximum mean discrepancy is $\\overline{k(s, s')} + \\overline{k(t, t')} - 2\\, \\overline{k(s, t)}$: "
        "each bar is the mean over *all* pairs of channels, a channel with itself included. Write "
        "`my_mmd_loss(student_maps, teacher_maps)` for maps of shape (N, C, H, W), of which only the channel counts "
        "may differ: the mean over the examples. Only the student gets a gradient."
    ),
    skeleton=(
        "def my_mmd_loss(student_maps, teacher_maps):\n"
        '    """Squared maximum mean discrepancy of the channels, the mean over examples."""\n    ...'
    ),
    reference=mmd_loss,
    alternatives=(mmd_by_outer_products, mmd_pair_by_pair),
    cases=mmd_cases,
    drawn=lambda g: case(*drawn_maps(g)),
    hints=(
        "Write down the shape in which each row is one sample. Which dimension has length 1 afterwards?",
        "`x = F.normalize(maps.flatten(2), dim=2)` is (N, C, HW), and `x @ y.transpose(1, 2)` holds all products "
        "xᵀy of an example.",
        "`k(x, y) = (x @ y.transpose(1, 2)).square().mean(dim=(1, 2))`; return "
        "`(k(s, s) + k(t, t) - 2 * k(s, t)).mean()` with the teacher detached.",
    ),
    misconceptions=WRONG,
    shows="a discrepancy compares sets of channels: which patterns occur, not in which channel.",
    derivation=(
        "(xᵀy)² is the inner product of xxᵀ and yyᵀ, so the three means are ‖A‖² + ‖B‖² - 2⟨A, B⟩ = ‖A - B‖² with the "
        "mean outer products A and B: never negative, and 0 for equal sets. Source: Huang, Wang 2017, "
        "arXiv:1707.01219, section 4."
    ),
    gradients=(0, 1),
    relative=1e-4,
    forbidden=("kdcourse.losses.features.mmd_loss",),
)
