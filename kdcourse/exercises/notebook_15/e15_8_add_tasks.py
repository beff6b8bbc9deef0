"""15.8 several tasks added up."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

State = dict[str, Tensor]


def add_tasks(base: State, tuned: list[State], *, scale: float) -> State:
    result = {}
    for name, start in base.items():
        if start.is_floating_point():
            result[name] = start + scale * torch.stack([state[name] - start for state in tuned]).sum(dim=0)
        else:
            result[name] = start.clone()
    return result


def add_one_task_after_another(base: State, tuned: list[State], *, scale: float) -> State:
    result = {name: tensor.clone() for name, tensor in base.items()}
    for state in tuned:
        for name, tensor in result.items():
            if tensor.is_floating_point():
                tensor += scale * (state[name] - base[name])
    return result


def add_as_a_weighted_sum(base: State, tuned: list[State], *, scale: float) -> State:
    """(1 - K · scale) · base + scale · the sum of the fine-tuned weights."""
    kept = 1 - len(tuned) * scale
    return {
        name: kept * start + scale * sum(state[name] for state in tuned) if start.dtype.is_floating_point else start
        for name, start in base.items()
    }


def _each(base: State, change: Callable[[str, Tensor], Tensor]) -> State:
    """The floating-point tensors changed, all else from the base."""
    return {name: change(name, start) if start.is_floating_point() else start for name, start in base.items()}


def _sum(name: str, start: Tensor, tuned: list[State]) -> Tensor:
    return torch.stack([state[name] - start for state in tuned]).sum(dim=0)


def mean_of_the_tasks(base: State, tuned: list[State], *, scale: float) -> State:
    return _each(base, lambda name, start: start + scale * _sum(name, start, tuned) / len(tuned))


def mean_of_the_weights(base: State, tuned: list[State], *, scale: float) -> State:
    return _each(base, lambda name, start: torch.stack([state[name] for state in tuned]).mean(dim=0))


def weights_added(base: State, tuned: list[State], *, scale: float) -> State:
    return _each(base, lambda name, start: start + scale * torch.stack([state[name] for state in tuned]).sum(dim=0))


def base_forgotten(base: State, tuned: list[State], *, scale: float) -> State:
    return _each(base, lambda name, start: scale * _sum(name, start, tuned))


def base_for_each(base: State, tuned: list[State], *, scale: float) -> State:
    return _each(base, lambda name, start: len(tuned) * start + scale * _sum(name, start, tuned))


def scale_on_all(base: State, tuned: list[State], *, scale: float) -> State:
    return _each(base, lambda name, start: scale * (start + _sum(name, start, tuned)))


def no_scale(base: State, tuned: list[State], *, scale: float) -> State:
    return add_tasks(base, tuned, scale=1.0)


def scale_squared(base: State, tuned: list[State], *, scale: float) -> State:
    return add_tasks(base, tuned, scale=scale * scale)


def other_sign(base: State, tuned: list[State], *, scale: float) -> State:
    return add_tasks(base, tuned, scale=-scale)


def only_the_last(base: State, tuned: list[State], *, scale: float) -> State:
    return add_tasks(base, tuned[-1:], scale=scale)


def only_the_first(base: State, tuned: list[State], *, scale: float) -> State:
    return add_tasks(base, tuned[:1], scale=scale)


def from_the_moved_base(base: State, tuned: list[State], *, scale: float) -> State:
    result = dict(base)
    for state in tuned:
        result = add_tasks(result, [state], scale=scale)
    return result


def integers_of_the_last(base: State, tuned: list[State], *, scale: float) -> State:
    added = add_tasks(base, tuned, scale=scale)
    return {name: part if part.is_floating_point() else tuned[-1][name] for name, part in added.items()}


def integers_moved(base: State, tuned: list[State], *, scale: float) -> State:
    added = add_tasks(base, tuned, scale=scale)
    for name, start in base.items():
        if not start.is_floating_point():
            added[name] = (start + scale * _sum(name, start, tuned)).to(start.dtype)
    return added


def only_matrices(base: State, tuned: list[State], *, scale: float) -> State:
    added = add_tasks(base, tuned, scale=scale)
    return {name: part if part.ndim > 1 else base[name] for name, part in added.items()}


def _states(seed: int, tasks: int, outputs: int, inputs: int, dtype: torch.dtype) -> tuple[State, list[State]]:
    def state(number: int) -> State:
        first = seed + 10 * number
        return {
            "steps": torch.tensor(100 * (number + 1) + number),
            "running_mean": draw(outputs, seed=first).to(dtype),
            "weight": draw(outputs, inputs, seed=first + 1).to(dtype),
            "bias": draw(outputs, seed=first + 2).to(dtype),
        }

    return state(0), [state(number) for number in range(1, tasks + 1)]


def task_cases() -> list[Case]:
    small = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    both = [{"weight": torch.tensor([numbers], dtype=torch.float64)} for numbers in ([1.5, -2.0], [1.0, -1.0])]
    base, tuned = _states(200, 2, 2, 3, torch.float64)
    return [
        case({"weight": small}, both, scale=1.0),
        case({"weight": small.clone()}, [{"weight": each["weight"] * 2} for each in both], scale=0.5),
        case(base, tuned, scale=0.4),
        case(*_states(300, 3, 3, 2, torch.float32), scale=0.3),
        case(*_states(400, 1, 2, 2, torch.float64), scale=1.0),  # alone: the fine-tuned network itself
        case(*_states(500, 2, 2, 2, torch.float64), scale=-0.5),  # a task taken away
        case({"weight": small.clone()}, [{"head": small * 3, **state} for state in both], scale=0.7),
    ]


def drawn_task(g: torch.Generator) -> Case:
    states = _states(integer(g, 1000, 9999), integer(g, 1, 4), integer(g, 1, 4), integer(g, 1, 4), torch.float64)
    return case(*states, scale=integer(g, -5, 12) / 10)


EXERCISE = Exercise(
    id="15.8",
    title="several tasks added up",
    question=(
        "One network was fine-tuned for several tasks, each time from the same weights. `base` is its `state_dict`, "
        "`tuned` the list of those of the fine-tuned networks, at least one. The *task vector* of a network is what "
        "fine-tuning added to the base. Write `my_add_tasks(base, tuned, *, scale)`: a new dict with the names of "
        "`base`, in which every floating-point tensor is that of the base plus `scale` times the sum of the task "
        "vectors, in its dtype. Everything else (integers, such as a counter of steps) is as in `base`. Names that "
        "only a fine-tuned network has, such as a head of its own, are left out."
    ),
    skeleton=(
        "def my_add_tasks(base, tuned, *, scale):\n"
        '    """The base plus scale times the sum of the task vectors."""\n    ...'
    ),
    reference=add_tasks,
    alternatives=(add_one_task_after_another, add_as_a_weighted_sum),
    cases=task_cases,
    drawn=drawn_task,
    hints=(
        "What has one fine-tuned network added to the base? Add that up, not the weights.",
        "For every floating-point name: `start + scale * sum(state[name] - start for state in tuned)`.",
        "A dict over `base.items()`, with `start.is_floating_point()` to tell the others, which are copied: "
        "`start.clone()`.",
    ),
    misconceptions=(
        Misconception(
            "the mean of the task vectors",
            mean_of_the_tasks,
            "you divide by the number of tasks. The *sum* is asked for: with the mean each task gets only a part of "
            "`scale`",
        ),
        Misconception(
            "the mean of the weights",
            mean_of_the_weights,
            "this is the average of the fine-tuned networks, a soup. It does not know `scale`; with scale = 1 / tasks "
            "both would be the same",
        ),
        Misconception(
            "weights added",
            weights_added,
            "you add the fine-tuned weights themselves. A task vector is their *difference* from the base",
        ),
        Misconception(
            "the base forgotten",
            base_forgotten,
            "this is the sum of the task vectors alone: add it to the base",
        ),
        Misconception(
            "the base for each task",
            base_for_each,
            "you add the base once per task. It is there once, and each task adds its difference",
        ),
        Misconception(
            "the scale on everything",
            scale_on_all,
            "you multiply the base by `scale` as well. Only the task vectors are scaled",
        ),
        Misconception("no scale", no_scale, "you do not use `scale`"),
        Misconception("the scale twice", scale_squared, "you multiply by `scale` twice"),
        Misconception(
            "the other sign",
            other_sign,
            "your task vectors have the wrong sign: fine-tuned minus base. With the other sign the network unlearns "
            "its tasks",
        ),
        Misconception("only the last task", only_the_last, "you use only the last network of the list: add up all"),
        Misconception("only the first task", only_the_first, "you use only the first network of the list: add up all"),
        Misconception(
            "from a base that moves",
            from_the_moved_base,
            "you add one task after another and take each difference from the sum so far. The tasks were all "
            "fine-tuned from the *base*: take every difference from there",
        ),
        Misconception(
            "integers of the last task",
            integers_of_the_last,
            "the weights are correct. Integers are as in `base`, not as in a fine-tuned network",
        ),
        Misconception(
            "integers moved",
            integers_moved,
            "the weights are correct. But you also compute with integers, and the result is cut off when it is stored: "
            "a counter has no task vector",
        ),
        Misconception(
            "only matrices",
            only_matrices,
            "you move only matrices. Biases, norms and their statistics are fine-tuned as well",
        ),
    ),
    shows="a network fine-tuned from common weights is a vector, and vectors can be added, scaled and taken away.",
    derivation=(
        "θ = θ₀ + λ Σ_k (θ_k - θ₀) = (1 - Kλ) θ₀ + λ Σ_k θ_k. One task with λ = 1 is the fine-tuned network, λ = 1 / K "
        "the average of all. Source: Ilharco et al. 2023, arXiv:2212.04089, section 2."
    ),
    relative=1e-4,
    absolute=1e-6,
)
