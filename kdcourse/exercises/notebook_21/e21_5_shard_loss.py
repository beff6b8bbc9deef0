"""21.5 a softmax over several workers, and its gradient."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def shard_loss(shard: Tensor, targets: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    own = (shard - largest[:, None]).exp().sum(dim=1)
    total = total + own - own.detach()
    places = torch.arange(shard.shape[1]) + first
    mine = shard.masked_fill(places != targets[:, None], 0).sum(dim=1)  # -inf times 0 would be NaN
    return largest + total.log() - (chosen + mine - mine.detach())


def loss_with_the_others(
    shard: Tensor, targets: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor
) -> Tensor:
    """What the others have sent is a constant; the own part is added to it."""
    own = torch.exp(shard - largest.unsqueeze(1)).sum(1)
    others = (total - own).detach()
    here = (targets >= first) & (targets < first + shard.size(1))
    local = torch.where(here, targets - first, 0)
    logit = torch.where(here, shard.gather(1, local[:, None]).squeeze(1), chosen)
    return torch.log(others + own) + largest - logit


class _Loss(torch.autograd.Function):
    """Value and gradient by hand."""

    @staticmethod
    def forward(ctx: object, shard: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)  # type: ignore[attr-defined]
        return value.clone()

    @staticmethod
    def backward(ctx: object, above: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return above[:, None] * slope, None, None


def loss_by_hand(
    shard: Tensor, targets: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor
) -> Tensor:
    slope = (shard.detach() - largest[:, None]).exp() / total[:, None]
    for row, target in enumerate(targets.tolist()):
        if first <= target < first + shard.shape[1]:
            slope[row, target - first] -= 1
    loss: Tensor = _Loss.apply(shard, largest + total.log() - chosen, slope)
    return loss


def _mine(shard: Tensor, targets: Tensor, first: int) -> Tensor:
    """The target's logit where it is in the shard, else 0."""
    return torch.where(torch.arange(shard.shape[1]) + first == targets[:, None], shard, 0).sum(dim=1)


def _own(shard: Tensor, largest: Tensor) -> Tensor:
    return (shard - largest[:, None]).exp().sum(dim=1)


def _with(value: Tensor, path: Tensor) -> Tensor:
    """The number ``value`` with the gradient of ``path``."""
    return value.detach() + path - path.detach()


def softmax_alone(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return largest + _with(total, _own(s, largest)).log() - chosen


def target_alone(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return largest + total.log() - _with(chosen, _mine(s, t, first))


def within_the_shard(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return _with(largest + total.log() - chosen, s.logsumexp(dim=1) - _mine(s, t, first))


def not_divided(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return _with(largest + total.log() - chosen, _own(s, largest) - _mine(s, t, first))


def own_sum_for_all(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return largest + _own(s, largest).log() - _with(chosen, _mine(s, t, first))


def own_sum_twice(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return largest + (total + _own(s, largest)).log() - _with(chosen, _mine(s, t, first))


def own_target_twice(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return largest + _with(total, _own(s, largest)).log() - chosen - _mine(s, t, first)


def own_target_only(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return largest + _with(total, _own(s, largest)).log() - _mine(s, t, first)


def first_forgotten(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return largest + _with(total, _own(s, largest)).log() - _with(chosen, _mine(s, t, 0))


def clamped(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    place = (t - first).clamp(0, s.shape[1] - 1)
    return largest + _with(total, _own(s, largest)).log() - _with(chosen, s.gather(1, place[:, None])[:, 0])


def largest_left_out(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return _with(total, _own(s, largest)).log() - _with(chosen, _mine(s, t, first))


def own_maximum(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    own = _own(s, s.detach().amax(dim=1))
    return largest + _with(total, own).log() - _with(chosen, _mine(s, t, first))


def through_the_maximum(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    top = _with(largest, s.amax(dim=1))
    return top + _with(total, _own(s, largest)).log() - _with(chosen, _mine(s, t, first))


def turned_round(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return -shard_loss(s, t, first=first, largest=largest, total=total, chosen=chosen)


def no_shift(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    whole = total * largest.exp()
    return _with(whole, s.exp().sum(dim=1)).log() - _with(chosen, _mine(s, t, first))


def probability(s: Tensor, t: Tensor, *, first: int, largest: Tensor, total: Tensor, chosen: Tensor) -> Tensor:
    return (-shard_loss(s, t, first=first, largest=largest, total=total, chosen=chosen)).exp()


def arrived(logits: Tensor, targets: Tensor, first: int, columns: int) -> Case:
    """What a worker has, and what three all-reduces have brought it."""
    largest = logits.amax(dim=1)
    return case(
        logits[:, first : first + columns].clone(),
        targets,
        first=first,
        largest=largest,
        total=(logits - largest[:, None]).exp().sum(dim=1),
        chosen=logits.gather(1, targets[:, None])[:, 0],
    )


def _logits(seed: int, rows: int, columns: int, spread: float = 2.0) -> Tensor:
    return draw(rows, columns, seed=seed, spread=spread)


def shard_cases() -> list[Case]:
    tied = torch.tensor([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]], dtype=torch.float64)
    impossible = _logits(6, 4, 7)
    impossible[:, 5] = impossible[1, 6] = -torch.inf
    return [
        arrived(_logits(1, 2, 4), torch.tensor([3, 0]), 2, 2),
        arrived(_logits(2, 3, 6), torch.tensor([1, 5, 0]), 0, 2),
        arrived(_logits(3, 6, 9), torch.tensor([2, 3, 5, 6, 8, 0]), 3, 3),  # just inside and just outside
        arrived(tied, torch.tensor([1, 3]), 1, 2),
        arrived(_logits(4, 3, 5, 300.0), torch.tensor([4, 2, 0]), 2, 3),  # exp() of these overflows
        arrived(_logits(5, 3, 8, 1.0) + 900, torch.tensor([7, 2, 5]), 5, 3),
        arrived(impossible, torch.tensor([4, 0, 4, 3]), 3, 4),  # some tokens are impossible
        arrived(_logits(7, 4, 6).float(), torch.tensor([0, 5, 3, 2]), 2, 3),
        arrived(_logits(8, 3, 4), torch.tensor([1, 0, 3]), 0, 4),  # a single worker
    ]


def drawn_shard(g: torch.Generator) -> Case:
    rows, columns, width = integer(g, 3, 6), integer(g, 6, 12), integer(g, 2, 4)
    first = integer(g, 1, columns - width)
    return arrived(draw(rows, columns, seed=g, spread=2.0), torch.randint(columns, (rows,), generator=g), first, width)


EXERCISE = Exercise(
    id="21.5",
    title="a softmax over several workers",
    question=(
        "The vocabulary is too large for one worker, so each has some columns of the logits. Yours has `shard`, a "
        "tensor (N, C): the columns `first` to `first` + C - 1. `targets` (N,), int64, are numbers of the *whole* "
        "vocabulary; a target may lie in your columns or not. For each row three numbers have come back from "
        "`all_reduce` over all workers, yours included, each (N,): `largest`, the largest of all logits of the row; "
        "`total`, the sum of exp(z - largest) over the logits z of *all* columns; `chosen`, the logit of the target. "
        "They came without gradient, as plain numbers: autograd does not know that your shard is in them. Write "
        "`my_shard_loss(shard, targets, *, first, largest, total, chosen)`: for each row -log p(target), a tensor "
        "(N,), where p is the softmax over all columns. Its gradient with respect to `shard` must be that of the full "
        "loss: what the softmax of *all* columns would give at yours. Logits may be so large that their exp overflows, "
        "and -inf where a token is impossible, never the target."
    ),
    skeleton=(
        "def my_shard_loss(shard, targets, *, first, largest, total, chosen):\n"
        '    """Minus log p of each target, with the gradient of the full softmax."""\n    ...'
    ),
    reference=shard_loss,
    alternatives=(loss_with_the_others, loss_by_hand),
    cases=shard_cases,
    drawn=drawn_shard,
    gradients=(0,),
    hints=(
        "The value is `largest + total.log() - chosen`, in which `shard` does not appear. Which part of `total` is "
        "yours, and which part of `chosen`?",
        "What the others have sent is a constant for your gradient. Compute your own part from `shard`, and put it in "
        "place of the same number in `total`. The gradient is to be the softmax, minus 1 at the target if it is yours.",
        "`own = (shard - largest[:, None]).exp().sum(1)` and `total = total + own - own.detach()`: the same number, "
        "now with a gradient. Likewise for the target's logit, at column `targets - first` where that is yours.",
    ),
    misconceptions=(
        Misconception(
            "the softmax's part alone",
            softmax_alone,
            "the value is correct, but of the gradient you have the softmax only. `chosen` is a plain number as well: "
            "where the target is in your columns, its logit needs its -1. As it is, all logits are only pushed down",
        ),
        Misconception(
            "the target's part alone",
            target_alone,
            "the value is correct, but of the gradient you have the -1 at the target only. `total` is a plain number: "
            "put your own part of it in its place, with a gradient",
        ),
        Misconception(
            "a softmax within the shard",
            within_the_shard,
            "the value is correct, but the gradient is that of a softmax over your columns alone: it sums to 1 on "
            "every worker. Divide by `total`, which is over all columns",
        ),
        Misconception(
            "not divided by the total",
            not_divided,
            "the value is correct, but the gradient of the logarithm is missing: your exponentials are not divided by "
            "`total`. Replace the part inside of `log`",
        ),
        Misconception(
            "own sum for all",
            own_sum_for_all,
            "you take the sum of your own columns for that of all. A softmax over a part of the vocabulary is too "
            "large: the others' part of `total` is needed",
        ),
        Misconception(
            "own sum twice",
            own_sum_twice,
            "your own sum is in there twice: `total` is over all workers, yours included. Subtract the same number "
            "without its gradient",
        ),
        Misconception(
            "own target twice",
            own_target_twice,
            "where the target is yours, its logit is subtracted twice: `chosen` has it already. Take one away "
            "without its gradient",
        ),
        Misconception(
            "own targets only",
            own_target_only,
            "where the target belongs to another worker, you subtract 0 for its logit. `chosen` has it for every row",
        ),
        Misconception(
            "first forgotten",
            first_forgotten,
            "you look for the target's number among your columns without subtracting `first`. Column 0 of your shard "
            "is the token `first`",
        ),
        Misconception(
            "targets clamped",
            clamped,
            "targets that are not yours are clamped to your first or last column, which then gets their gradient. "
            "Leave those rows out",
        ),
        Misconception(
            "largest left out",
            largest_left_out,
            "`total` is a sum of exp(z - largest). Add `largest` to its logarithm",
        ),
        Misconception(
            "own maximum as shift",
            own_maximum,
            "the value is correct, but in your own part you subtract the largest logit of your *own* columns. `total` "
            "was made with that of all columns: on every worker but one your gradient is too large",
        ),
        Misconception(
            "through the maximum",
            through_the_maximum,
            "the value is correct, but you let a gradient through `largest`, too. The loss does not depend on which "
            "number is subtracted, as long as it is added again: treat it as a constant",
        ),
        Misconception("the sign", turned_round, "this is log p. The loss is minus that"),
        Misconception("p itself", probability, "this is p. The loss is minus its logarithm"),
        Misconception(
            "no shift",
            no_shift,
            "you take exp of the logits themselves. For a logit of 800 that is infinite: subtract `largest` first",
        ),
    ),
    shows="a correct value says nothing about the gradient: what comes back from `all_reduce` is a constant.",
    derivation=(
        "L = m + log Σ_w S_w - z_t with S_w = Σ exp(z - m) over the columns of worker w. At a column of worker r, "
        "∂L/∂z = exp(z - m) / Σ_w S_w - [column = t]: only S_r depends on it, and m cancels. With the reduced sum as a "
        "plain number S, S + S_r - sg(S_r) has the value S and the gradient of S_r, where sg stops the gradient."
    ),
    points=2,
)
