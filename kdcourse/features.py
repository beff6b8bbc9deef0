"""What named layers compute, recorded as a network runs, and features as a part of distillation."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


class Recorded(dict[str, Any]):
    """What each layer returned in the network's last run, by the layer's name."""

    running = False  # a layer that another network shares runs outside as well

    def begin(self) -> None:
        self.clear()
        self.running = True

    def end(self) -> None:
        self.running = False

    def __missing__(self, name: str) -> Any:
        raise KeyError(
            f"{name!r} has not run since the network was last called: its forward() leaves this layer out, or the "
            "network has not been called inside the block"
        )


class FeatureTerm(NamedTuple):
    """A loss between a layer of the student and one of the teacher, for `kdcourse.training.distill(features=[...])`.

    ``loss(student_features, teacher_features)`` is added to the distillation loss times ``weight``. ``regressor``
    maps the student's features first, to the teacher's width for example; it is trained with the student, by the same
    optimizer, and thrown away with the term.
    """

    student_layer: str
    teacher_layer: str
    loss: Callable[[Tensor, Tensor], Tensor]
    weight: float = 1.0
    regressor: nn.Module | None = None


@contextmanager
def outputs_of(model: nn.Module, names: Sequence[str]) -> Iterator[Recorded]:
    """Inside the block, record what the layers called ``names`` return whenever ``model`` is called.

    The names are those of ``model.named_modules()``. A copy is kept, with its gradient: an in-place ReLU after the
    layer does not change it. A call of the model forgets what the one before recorded. Raises ``ValueError`` for a
    name that does not exist, naming the nearest ones, and for a layer that runs twice in one call; reading a layer
    that did not run raises ``KeyError``. The hooks are gone at the end of the block.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    >>> with outputs_of(model, ["0"]) as found:
    ...     logits = model(torch.ones(5, 2))
    >>> found["0"].shape
    torch.Size([5, 3])
    """
    layers = dict(model.named_modules(remove_duplicate=False))
    for name in names:
        if not name or name not in layers:
            nearest = difflib.get_close_matches(name, layers, n=3) or [known for known in layers if known][:5]
            raise ValueError(f"there is no layer called {name!r}: did you mean {', '.join(map(repr, nearest))}?")
    recorded = Recorded()
    hooks = [
        model.register_forward_pre_hook(lambda *_: recorded.begin(), prepend=True),
        model.register_forward_hook(lambda *_: recorded.end(), always_call=True),
    ]
    try:
        for name in dict.fromkeys(names):
            hooks.append(layers[name].register_forward_hook(_recorder(name, recorded), prepend=True))
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def _recorder(name: str, recorded: Recorded) -> Callable[..., None]:
    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if not recorded.running:
            return
        if name in recorded:
            raise ValueError(
                f"{name!r} runs more than once in a call of the network: which output is meant? Use the layer after it"
            )
        recorded[name] = tree_map_only(Tensor, Tensor.clone, output)

    return record
