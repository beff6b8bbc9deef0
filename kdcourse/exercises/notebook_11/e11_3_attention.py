"""11.3 where two layers are active."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw
from .common import drawn_maps, table
from .wrong_11_3 import WRONG


def attention_loss(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    student = F.normalize(student_maps.square().sum(dim=1).flatten(1), dim=1)
    teacher = F.normalize(teacher_maps.detach().square().sum(dim=1).flatten(1), dim=1)
    return (student - teacher).square().mean()


def attention_by_the_mean(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    attentions = []
    for maps in (student_maps, teacher_maps.detach()):
        energy = (maps**2).mean(dim=1)  # the number of channels cancels
        length = (energy**2).sum(dim=(1, 2), keepdim=True)
        attentions.append(energy / torch.where(length > 0, length, 1.0).sqrt())
    return F.mse_loss(attentions[0], attentions[1])


def attention_one_by_one(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    total = student_maps.new_zeros(())
    for student, teacher in zip(student_maps, teacher_maps.detach(), strict=True):
        one, other = _attention(student), _attention(teacher)
        total = total + ((one - other) ** 2).sum()
    return total / student_maps[:, 0].numel()


def _attention(channels: Tensor) -> Tensor:
    energy = torch.einsum("chw,chw->hw", channels, channels)
    return energy / energy.norm() if energy.any() else energy


def attention_cases() -> list[Case]:
    student = table([[1.0, -2.0], [0.5, 3.0]]).reshape(1, 2, 1, 2)
    teacher = table([[2.0, 1.0], [-1.0, 1.5]]).reshape(1, 2, 1, 2)
    dead = draw(3, 2, 2, 3, seed=5)
    dead[1] = 0.0
    dark = draw(3, 4, 2, 2, seed=7)
    dark[2] = 0.0
    return [
        case(student, teacher),
        case(draw(3, 4, 3, 2, seed=1), draw(3, 4, 3, 2, seed=2).relu()),
        case(draw(2, 3, 4, 4, seed=3).float(), draw(2, 5, 4, 4, seed=4).float()),
        case(dead, draw(3, 5, 2, 3, seed=6)),  # an example for which no channel of the student is active
        case(draw(3, 2, 2, 2, seed=8), dark),
        case(draw(2, 3, 2, 2, seed=9, spread=0.35), draw(2, 1, 2, 2, seed=10, spread=0.35)),  # hardly active
    ]


EXERCISE = Exercise(
    id="11.3",
    title="where two layers are active",
    question=(
        "Write `my_attention_loss(student_maps, teacher_maps)` for maps of shape (N, C, H, W); only the channel "
        "counts may differ. For each example, $q = \\sum_c F_c^2$ says how active each of the H·W positions is, and "
        "$a = q / \\lVert q \\rVert_2$, with the norm over the positions of that example. Return the mean of "
        "$(a_s - a_t)^2$ over examples and positions. Where an example's map is all zeros, $a$ is 0 everywhere, "
        "and its gradient is 0, not NaN. Only the student gets a gradient."
    ),
    skeleton=(
        "def my_attention_loss(student_maps, teacher_maps):\n"
        '    """Mean squared difference of the two normalised attention maps."""\n    ...'
    ),
    reference=attention_loss,
    alternatives=(attention_by_the_mean, attention_one_by_one),
    cases=attention_cases,
    drawn=lambda g: case(*drawn_maps(g)),
    hints=(
        "Which dimension must be gone before maps with different channel counts can be compared?",
        "Square, sum over `dim=1`, and flatten the positions: (N, HW). Then each row is scaled to length 1.",
        "`a = F.normalize(maps.square().sum(dim=1).flatten(1), dim=1)` for both, the teacher detached; "
        "`F.normalize` keeps a row of zeros as it is. Then `F.mse_loss`.",
    ),
    misconceptions=WRONG,
    shows="attention transfer compares where two layers are active: neither channel order nor scale matters.",
    derivation=(
        "q sums over the channels, so their order and number drop out; a factor k on F is k² on q and on its norm. "
        "The mean over channels instead of the sum cancels as well. Source: Zagoruyko, Komodakis 2017, "
        "arXiv:1612.03928, section 3.1, with the mean of squares of the authors' code."
    ),
    gradients=(0, 1),
    relative=1e-4,
    forbidden=("kdcourse.losses.features.attention_transfer_loss",),
)
