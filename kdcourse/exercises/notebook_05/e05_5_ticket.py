"""05.5 a winning ticket."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .e05_1_magnitude_mask import magnitude_mask, mask_by_rank

Train = Callable[[Tensor], None]


class Training(nn.Module):
    """Pulls a tensor most of the way to a target, in place, and remembers how it began.

    A module, because the engine lets modules be.
    """

    def __init__(self, target: Tensor, initial: Tensor) -> None:
        super().__init__()
        self.target, self.began = target, initial.clone()

    def forward(self, weight: Tensor) -> None:
        with torch.no_grad():
            for _ in range(3):
                weight += 0.4 * (self.target - weight)


def ticket(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial.clone()
    train(weight)
    return initial * magnitude_mask(weight, sparsity)


def ticket_by_snapshot(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    snapshot, weight = initial.clone(), initial.clone()
    train(weight)
    smallest = weight.abs().flatten().topk(round(sparsity * weight.numel()), largest=False).indices
    weight.copy_(snapshot)
    weight.view(-1)[smallest] = 0
    return weight


def ticket_by_where(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    trained = torch.tensor(initial.tolist(), dtype=initial.dtype)
    train(trained)
    return torch.where(mask_by_rank(trained, sparsity), initial, 0.0)


def rewound_by_reference(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial
    train(weight)
    return initial * magnitude_mask(weight, sparsity)


def trained_the_initial_ones(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    snapshot = initial.clone()
    train(initial)
    return snapshot * magnitude_mask(initial, sparsity)


def masked_by_initial_magnitudes(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    return initial * magnitude_mask(initial, sparsity)


def not_rewound(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial.clone()
    train(weight)
    return weight * magnitude_mask(weight, sparsity)


def drawn_anew(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial.clone()
    train(weight)
    torch.manual_seed(0)
    return torch.randn_like(initial) * magnitude_mask(weight, sparsity)


def mask_never_applied(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    return initial.clone()


def trained_once_more(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = ticket(initial, train, sparsity)
    train(weight)
    return weight


def by_movement(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial.clone()
    train(weight)
    return initial * magnitude_mask(weight - initial, sparsity)


def the_other_weights(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    return initial - ticket(initial, train, sparsity)


def the_share_kept(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    return ticket(initial, train, 1 - sparsity)


def the_mask(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    return ticket(initial, train, sparsity) != 0


def by_value(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial.clone()
    train(weight)
    return initial * magnitude_mask(weight - weight.min(), sparsity)


def ticket_cases() -> list[Case]:
    start = torch.tensor([0.6, -0.1, 0.3, -0.2], dtype=torch.float64)
    goal = torch.tensor([0.1, -0.9, 0.4, -0.2], dtype=torch.float64)
    larger = draw(3, 4, seed=59, spread=0.5)
    return [
        case(start, Training(goal, start), 0.5),
        case(larger, Training(draw(3, 4, seed=60), larger), 0.7),
    ]


def ticket_and_its_start(result: Any, case: Case) -> Any:
    """The ticket, and with it the initial weights where they are no longer what they were."""
    initial, train, _ = case.arguments
    return result if torch.equal(initial, train.began) else (result, initial)


def drawn_ticket(g: torch.Generator) -> Case:
    initial = draw(3, integer(g, 3, 6), seed=g, spread=0.5)
    return case(initial, Training(draw(*initial.shape, seed=g), initial), integer(g, 2, 8) / 10)


EXERCISE = Exercise(
    id="05.5",
    title="a winning ticket",
    question=(
        "Write `my_ticket(initial, train, sparsity)`. `initial` is a tensor of initial weights. `train(weight)` trains "
        "a tensor *in place* and returns nothing. Train, find the `round(sparsity * n)` weights whose *trained* "
        "absolute values are smallest (there are no ties), and return the ticket: a tensor with 0 there and the "
        "*initial* values everywhere else. Do not modify `initial`. You may use `magnitude_mask` from "
        "`kdcourse.pruning`."
    ),
    skeleton=(
        "def my_ticket(initial, train, sparsity):\n"
        '    """The initial weights under the mask that training found."""\n    ...'
    ),
    reference=ticket,
    alternatives=(ticket_by_snapshot, ticket_by_where),
    cases=ticket_cases,
    drawn=drawn_ticket,
    hints=(
        "Two sets of numbers: one says which weights stay, the other what they are set to.",
        "`train` changes the tensor that you hand to it. What do you still need afterwards?",
        "`weight = initial.clone()`, `train(weight)`, and then `initial` times the mask of `weight`.",
    ),
    misconceptions=(
        Misconception(
            "rewind by reference",
            rewound_by_reference,
            "your initial weights were trained: `weight = initial` is a second name, no copy, and training is in "
            "place. `dict(model.state_dict())` does the same. Nothing is rewound. Take a `clone()`",
        ),
        Misconception(
            "the initial weights trained",
            trained_the_initial_ones,
            "the ticket is right, but `initial` itself was trained on the way. The next arm that starts from it, with "
            "a random mask say, starts from trained weights. Train a copy",
        ),
        Misconception(
            "masked by the initial magnitudes",
            masked_by_initial_magnitudes,
            "you rank the initial weights. Before training their sizes are chance; the mask that wins is the one that "
            "training found",
        ),
        Misconception(
            "not rewound",
            not_rewound,
            "you keep the trained values: this is ordinary pruning. The claim is about *starting points*, so the kept "
            "weights go back to their initial values",
        ),
        Misconception(
            "drawn again",
            drawn_anew,
            "the mask is right, but you draw new initial weights. That is the control of the experiment: it shows "
            "whether the mask alone would do",
        ),
        Misconception(
            "mask never applied",
            mask_never_applied,
            "you return the initial weights whole. A ticket without its mask is just the beginning",
        ),
        Misconception(
            "trained once more",
            trained_once_more,
            "you train the ticket as well. `train` knows no mask, so pruned weights come back. The question asks "
            "for the starting point",
        ),
        Misconception(
            "by movement",
            by_movement,
            "you rank by how far training moved each weight. That is movement pruning; here the trained absolute "
            "value decides",
        ),
        Misconception(
            "the other weights",
            the_other_weights,
            "your mask is the wrong way round: you keep the weights that were to be pruned",
        ),
        Misconception(
            "the fraction kept",
            the_share_kept,
            "you keep the fraction `sparsity`. It is the fraction of zeros: 0.7 leaves three weights in ten",
        ),
        Misconception(
            "the mask",
            the_mask,
            "this is the mask. The ticket is a tensor of weights: the initial values times that mask",
        ),
        Misconception(
            "by value",
            by_value,
            "you rank the trained values with their signs, so the most negative weights go first. Rank the absolute "
            "values",
        ),
    ),
    shows="a ticket takes its mask from the trained weights and its values from a copy of the initial ones.",
    derivation=(
        "m = mask of |w_T|, ticket = m ⊙ w_0. w_0 has to be copied before training, which overwrites it. Source: "
        "Frankle, Carbin 2019, arXiv:1803.03635."
    ),
    observe=ticket_and_its_start,
    may_change=True,  # so that a rewind by reference reaches its own diagnosis
    points=2,
)
