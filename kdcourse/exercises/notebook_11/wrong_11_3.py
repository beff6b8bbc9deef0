"""Wrong answers to 11.3."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Misconception
from .common import mean_square


def _compared(student: Tensor, teacher: Tensor) -> Tensor:
    """The rest of the way, from two maps of energy (N, HW)."""
    return mean_square(F.normalize(student, dim=1), F.normalize(teacher.detach(), dim=1))


def _energy(maps: Tensor) -> Tensor:
    return maps.square().sum(dim=1).flatten(1)


def _right(s: Tensor, t: Tensor) -> Tensor:
    return _compared(_energy(s), _energy(t))


def no_sum_over_channels(s: Tensor, t: Tensor) -> Tensor:
    return _compared(s.square().flatten(1), t.square().flatten(1))


def absolute_values(s: Tensor, t: Tensor) -> Tensor:
    return _compared(s.abs().sum(dim=1).flatten(1), t.abs().sum(dim=1).flatten(1))


def summed_then_squared(s: Tensor, t: Tensor) -> Tensor:
    return _compared(s.sum(dim=1).square().flatten(1), t.sum(dim=1).square().flatten(1))


def never_squared(s: Tensor, t: Tensor) -> Tensor:
    return _compared(s.sum(dim=1).flatten(1), t.sum(dim=1).flatten(1))


def largest_channel(s: Tensor, t: Tensor) -> Tensor:
    return _compared(s.square().amax(dim=1).flatten(1), t.square().amax(dim=1).flatten(1))


def root_of_the_energy(s: Tensor, t: Tensor) -> Tensor:
    return _compared(s.norm(dim=1).flatten(1), t.norm(dim=1).flatten(1))


def summed_over_positions(s: Tensor, t: Tensor) -> Tensor:
    return _compared(s.square().sum(dim=(2, 3)), t.square().sum(dim=(2, 3)))


def not_normalised(s: Tensor, t: Tensor) -> Tensor:
    return mean_square(_energy(s), _energy(t.detach()))


def normalised_over_the_batch(s: Tensor, t: Tensor) -> Tensor:
    return mean_square(F.normalize(_energy(s), dim=0), F.normalize(_energy(t.detach()), dim=0))


def one_norm_for_the_batch(s: Tensor, t: Tensor) -> Tensor:
    return mean_square(*(_energy(maps) / _energy(maps).norm() for maps in (s, t.detach())))


def _scaled(energy: Tensor, size: Tensor) -> Tensor:
    return energy / torch.where(size > 0, size, 1.0)


def normalised_by_the_sum(s: Tensor, t: Tensor) -> Tensor:
    energies = (_energy(s), _energy(t.detach()))
    return mean_square(*(_scaled(energy, energy.sum(dim=1, keepdim=True)) for energy in energies))


def normalised_by_the_largest(s: Tensor, t: Tensor) -> Tensor:
    energies = (_energy(s), _energy(t.detach()))
    return mean_square(*(_scaled(energy, energy.amax(dim=1, keepdim=True)) for energy in energies))


def softmax_over_positions(s: Tensor, t: Tensor) -> Tensor:
    return mean_square(_energy(s).softmax(dim=1), _energy(t.detach()).softmax(dim=1))


def rows_normalised(s: Tensor, t: Tensor) -> Tensor:
    return mean_square(*(F.normalize(maps.square().sum(dim=1), dim=-1) for maps in (s, t.detach())))


def columns_normalised(s: Tensor, t: Tensor) -> Tensor:
    return mean_square(*(F.normalize(maps.square().sum(dim=1), dim=1) for maps in (s, t.detach())))


def length_of_the_difference(s: Tensor, t: Tensor) -> Tensor:
    one, other = F.normalize(_energy(s), dim=1), F.normalize(_energy(t.detach()), dim=1)
    return (one - other).norm(dim=1).mean()


def summed_over_the_map(s: Tensor, t: Tensor) -> Tensor:
    return _right(s, t) * s[0, 0].numel()


def summed_over_everything(s: Tensor, t: Tensor) -> Tensor:
    return _right(s, t) * s[:, 0].numel()


def absolute_difference(s: Tensor, t: Tensor) -> Tensor:
    return F.l1_loss(F.normalize(_energy(s), dim=1), F.normalize(_energy(t.detach()), dim=1))


def teacher_not_detached(s: Tensor, t: Tensor) -> Tensor:
    return mean_square(F.normalize(_energy(s), dim=1), F.normalize(_energy(t), dim=1))


def student_detached(s: Tensor, t: Tensor) -> Tensor:
    return _right(t, s)


def norm_held_constant(s: Tensor, t: Tensor) -> Tensor:
    energy = _energy(s)
    return mean_square(
        _scaled(energy, energy.norm(dim=1, keepdim=True).detach()), F.normalize(_energy(t.detach()), dim=1)
    )


def nan_replaced(s: Tensor, t: Tensor) -> Tensor:
    energies = (_energy(s), _energy(t.detach()))
    one, other = ((energy / energy.norm(dim=1, keepdim=True)).nan_to_num() for energy in energies)
    return mean_square(one, other)


def divided_by_zero(s: Tensor, t: Tensor) -> Tensor:
    return mean_square(*(energy / energy.norm(dim=1, keepdim=True) for energy in (_energy(s), _energy(t.detach()))))


WRONG = (
    Misconception(
        "no sum over channels",
        no_sum_over_channels,
        "you square and normalise, but never sum over the channels. That needs equal channel counts, and channel "
        "k of two networks means different things: permuting channels must not change the loss",
    ),
    Misconception(
        "absolute values",
        absolute_values,
        "you sum absolute values. The energy sums squares, so that few strong channels count more than many weak",
    ),
    Misconception(
        "summed before squaring",
        summed_then_squared,
        "you sum over the channels first and square the sum. There, positive and negative activations cancel: "
        "square each one first",
    ),
    Misconception(
        "not squared",
        never_squared,
        "you add the activations as they are. Positive and negative ones cancel: square first",
    ),
    Misconception(
        "the largest channel",
        largest_channel,
        "you take the most active channel of each position. The question asks for the sum over all of them",
    ),
    Misconception(
        "a root over the channels",
        root_of_the_energy,
        "you take the root of the sum of squares at each position. q is the sum itself; the only root is in the "
        "norm that divides it",
    ),
    Misconception(
        "summed over positions",
        summed_over_positions,
        "you sum over the positions and keep the channels: that says which channel is active. Attention says "
        "*where*: sum over the channels, `dim=1`",
    ),
    Misconception(
        "not normalised",
        not_normalised,
        "you compare q itself. Twice the activations are then four times the energy: divide by the norm, so that "
        "only where counts, not how much",
    ),
    Misconception(
        "normalised over the batch",
        normalised_over_the_batch,
        "you normalise over dimension 0, the examples. Each example has its own norm, over its positions: `dim=1` "
        "of (N, HW)",
    ),
    Misconception(
        "one norm for the batch",
        one_norm_for_the_batch,
        "you divide by one norm of the whole batch. One bright image then makes all others fade: each example "
        "has its own norm",
    ),
    Misconception(
        "normalised by the sum",
        normalised_by_the_sum,
        "you divide by the sum, so that a sums to 1. Divide by the 2-norm: its *squares* sum to 1",
    ),
    Misconception(
        "normalised by the largest",
        normalised_by_the_largest,
        "you divide by the largest entry. One pixel then scales the whole map: divide by the 2-norm",
    ),
    Misconception(
        "softmax over the positions",
        softmax_over_positions,
        "you take a softmax over the positions. It depends on the scale of the activations, which the 2-norm removes",
    ),
    Misconception(
        "rows normalised",
        rows_normalised,
        "you normalise each row of the map for itself: without `flatten(1)`, the last dimension is W. The norm "
        "goes over all H·W positions",
    ),
    Misconception(
        "columns normalised",
        columns_normalised,
        "you normalise each column of the map for itself: after the sum, dimension 1 is H. Flatten to (N, HW) first",
    ),
    Misconception(
        "the length of the difference",
        length_of_the_difference,
        "this is the mean *length* of the difference, as the paper prints it. Here, as in the authors' code, it "
        "is the mean of squares. The two need different weights",
    ),
    Misconception(
        "summed over the positions of the difference",
        summed_over_the_map,
        "exactly H·W times too large: you sum over the positions at the end. Take the mean over examples and positions",
    ),
    Misconception(
        "summed over everything",
        summed_over_everything,
        "exactly N·H·W times too large: you sum over examples and positions. Take the mean",
    ),
    Misconception(
        "absolute difference",
        absolute_difference,
        "you take absolute differences of the two maps instead of squares",
    ),
    Misconception(
        "teacher not detached",
        teacher_not_detached,
        "the value is correct, but the teacher gets a gradient too. Detach its maps",
    ),
    Misconception(
        "student detached",
        student_detached,
        "the value is correct, because a square is symmetric. But the gradient flows to the teacher, and the "
        "student never changes",
    ),
    Misconception(
        "norm held constant",
        norm_held_constant,
        "the value is correct, but you cut the norm off from the gradient. The norm depends on the maps: without its "
        "part, the gradient also tries to change how active the student is, which the loss does not see",
    ),
    Misconception(
        "NaN replaced afterwards",
        nan_replaced,
        "the value is correct, but a map of zeros still makes the gradient NaN: `nan_to_num` and `where` after the "
        "division come too late for it. Do not divide by 0 in the first place: `F.normalize`",
    ),
    Misconception(
        "zero divided by zero",
        divided_by_zero,
        "correct where every example has some activity. A map of zeros has norm 0, and 0/0 is NaN, for the whole "
        "batch's gradient too. `F.normalize` keeps it at 0",
    ),
)
