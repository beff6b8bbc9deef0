"""Wrong answers to 11.5."""

import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Misconception
from .common import mean_kernel


def _channels(maps: Tensor) -> Tensor:
    return F.normalize(maps.flatten(2), dim=2)


def _mmd(s: Tensor, t: Tensor) -> Tensor:
    """The rest of the way, from vectors (N, C, D)."""
    return (mean_kernel(s, s) + mean_kernel(t, t) - 2 * mean_kernel(s, t)).mean()


def _right(s: Tensor, t: Tensor) -> Tensor:
    return _mmd(_channels(s), _channels(t.detach()))


def kernel_not_squared(s: Tensor, t: Tensor) -> Tensor:
    return (_channels(s).mean(dim=1) - _channels(t.detach()).mean(dim=1)).square().sum(dim=1).mean()


def factor_two_missing(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = _channels(s), _channels(t.detach())
    within = mean_kernel(student, student) + mean_kernel(teacher, teacher)
    return (within - mean_kernel(student, teacher)).mean()


def cross_term_added(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = _channels(s), _channels(t.detach())
    within = mean_kernel(student, student) + mean_kernel(teacher, teacher)
    return (within + 2 * mean_kernel(student, teacher)).mean()


def teachers_own_term_missing(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = _channels(s), _channels(t.detach())
    return (mean_kernel(student, student) - 2 * mean_kernel(student, teacher)).mean()


def students_own_term_missing(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = _channels(s), _channels(t.detach())
    return (mean_kernel(teacher, teacher) - 2 * mean_kernel(student, teacher)).mean()


def not_normalised(s: Tensor, t: Tensor) -> Tensor:
    return _mmd(s.flatten(2), t.detach().flatten(2))


def normalised_over_channels(s: Tensor, t: Tensor) -> Tensor:
    return _mmd(F.normalize(s.flatten(2), dim=1), F.normalize(t.detach().flatten(2), dim=1))


def rows_normalised(s: Tensor, t: Tensor) -> Tensor:
    return _mmd(F.normalize(s, dim=-1).flatten(2), F.normalize(t.detach(), dim=-1).flatten(2))


def normalised_as_a_whole(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = (F.normalize(maps.flatten(1), dim=1).view_as(maps).flatten(2) for maps in (s, t.detach()))
    return _mmd(student, teacher)


def summed_over_pairs(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = _channels(s), _channels(t.detach())
    one, other = student.transpose(1, 2) @ student, teacher.transpose(1, 2) @ teacher
    return (one - other).square().sum(dim=(1, 2)).mean()


def without_the_diagonal(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = _channels(s), _channels(t.detach())
    own = [_mean_of_others(student), _mean_of_others(teacher)]
    return (own[0] + own[1] - 2 * mean_kernel(student, teacher)).mean()


def _mean_of_others(channels: Tensor) -> Tensor:
    kernel, count = (channels @ channels.transpose(1, 2)).square(), channels.shape[1]
    return (kernel.sum(dim=(1, 2)) - kernel.diagonal(dim1=1, dim2=2).sum(dim=1)) / (count * (count - 1))


def root_of_the_discrepancy(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = _channels(s), _channels(t.detach())
    within = mean_kernel(student, student) + mean_kernel(teacher, teacher)
    return (within - 2 * mean_kernel(student, teacher)).sqrt().mean()


def positions_as_samples(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = (F.normalize(maps.flatten(2).transpose(1, 2), dim=2) for maps in (s, t.detach()))
    return _mmd(student, teacher)


def mean_of_the_outer_products(s: Tensor, t: Tensor) -> Tensor:
    return _right(s, t) / s[0, 0].numel() ** 2


def channels_of_the_batch_pooled(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = (_channels(maps).flatten(0, 1).unsqueeze(0) for maps in (s, t.detach()))
    return _mmd(student, teacher)


def summed_over_examples(s: Tensor, t: Tensor) -> Tensor:
    return _right(s, t) * len(s)


def channel_by_channel(s: Tensor, t: Tensor) -> Tensor:
    return (_channels(s) - _channels(t.detach())).square().mean()


def centred(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = (maps.flatten(2) - maps.flatten(2).mean(dim=2, keepdim=True) for maps in (s, t.detach()))
    return _mmd(F.normalize(student, dim=2), F.normalize(teacher, dim=2))


def teacher_not_detached(s: Tensor, t: Tensor) -> Tensor:
    return _mmd(_channels(s), _channels(t))


def student_detached(s: Tensor, t: Tensor) -> Tensor:
    return _right(t, s)


def divided_by_zero(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = (maps.flatten(2) / maps.flatten(2).norm(dim=2, keepdim=True) for maps in (s, t.detach()))
    return _mmd(student, teacher)


WRONG = (
    Misconception(
        "kernel not squared",
        kernel_not_squared,
        "your kernel is xᵀy. It compares only the mean of the channels, so quite different sets of patterns cost "
        "nothing: square the product",
    ),
    Misconception(
        "factor 2 missing",
        factor_two_missing,
        "the mean over pairs of student and teacher counts twice, as in (a - b)² = a² + b² - 2ab. Without the 2, "
        "equal layers do not cost 0",
    ),
    Misconception(
        "cross term added",
        cross_term_added,
        "you add the term of student and teacher. Subtract it: what they have in common makes the loss smaller",
    ),
    Misconception(
        "the teacher's own term missing",
        teachers_own_term_missing,
        "the gradient is right, but the teacher's own term is missing. It is a constant for the student; without "
        "it the loss is not 0 for equal layers, and it can be negative",
    ),
    Misconception(
        "the student's own term missing",
        students_own_term_missing,
        "the student's own term is missing. It keeps the channels apart: without it, all of them move to the one "
        "pattern that is most common in the teacher",
    ),
    Misconception(
        "not normalised",
        not_normalised,
        "you use the channels as they are. The kernel grows with the fourth power of the scale: scale each "
        "channel's vector to length 1",
    ),
    Misconception(
        "normalised over the channels",
        normalised_over_channels,
        "you scale over the channels, dimension 1. A sample is one channel's vector of positions: `dim=2` of "
        "(N, C, HW)",
    ),
    Misconception(
        "rows of the map normalised",
        rows_normalised,
        "you scale each row of the map for itself: before `flatten(2)` the last dimension is W. The length goes "
        "over all H·W positions of a channel",
    ),
    Misconception(
        "the map normalised as a whole",
        normalised_as_a_whole,
        "you scale the whole map of an example to length 1. Each channel is a sample with a length of its own",
    ),
    Misconception(
        "sums over the pairs",
        summed_over_pairs,
        "you sum over the pairs of channels. A layer with more channels then has more of everything: take means, "
        "so that the channel counts may differ",
    ),
    Misconception(
        "a channel with itself left out",
        without_the_diagonal,
        "you leave out the pairs of a channel with itself. That is the unbiased estimate, which can be negative; "
        "the question asks for the mean over all pairs",
    ),
    Misconception(
        "a root at the end",
        root_of_the_discrepancy,
        "you take the square root. The *squared* discrepancy is asked for; the root has an infinite slope at 0",
    ),
    Misconception(
        "positions as samples",
        positions_as_samples,
        "your samples are the positions, each a vector over the channels. That needs equal channel counts. Here a "
        "sample is a channel, a vector over the positions",
    ),
    Misconception(
        "mean of the outer products' difference",
        mean_of_the_outer_products,
        "exactly (H·W)² times too small: you average the squared difference of the two mean outer products over "
        "its entries. The squared distance is their sum",
    ),
    Misconception(
        "channels of the batch pooled",
        channels_of_the_batch_pooled,
        "you compare the channels of all examples with one another. Each example has its own discrepancy; then "
        "take the mean",
    ),
    Misconception(
        "summed over examples",
        summed_over_examples,
        "you sum over the examples: exactly N times too large",
    ),
    Misconception(
        "channel by channel",
        channel_by_channel,
        "you compare channel k with channel k. That needs equal counts, and channel k of two networks means "
        "different things: a discrepancy compares the sets",
    ),
    Misconception(
        "channels centred",
        centred,
        "you subtract each channel's mean first. The vector is scaled to length 1, nothing else",
    ),
    Misconception(
        "teacher not detached",
        teacher_not_detached,
        "the value is correct, but the teacher gets a gradient too. Detach its maps",
    ),
    Misconception(
        "student detached",
        student_detached,
        "the value is correct, because the discrepancy is symmetric. But the gradient flows to the teacher, and "
        "the student never changes",
    ),
    Misconception(
        "zero divided by zero",
        divided_by_zero,
        "correct without a channel of zeros. Its length is 0, and 0/0 is NaN: after a ReLU such channels are "
        "common. `F.normalize` keeps them at 0",
    ),
)
