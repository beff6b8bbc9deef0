"""What named layers compute, recorded as a network runs, and features as a part of distillation."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


class Recorded(dict[str, Any]):
    """What each layer returned in the network's last run, by the layer's name."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(dict.fromkeys(names))
        self.running = False  # a layer that another network shares runs outside as well

    def begin(self) -> None:
        self.clear()
        self.running = True

    def end(self) -> None:
        self.running = False

    def __missing__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(f"{name!r} is not recorded, only {', '.join(map(repr, self.names))}: name it in outputs_of")
        raise KeyError(
            f"{name!r} has not run since the network was last called: its forward() leaves this layer out or takes "
            "its weights alone, or the network has not been called inside the block. Name the layer around it"
        )


class FeatureTerm(NamedTuple):
    """A loss between a layer of the student and one of the teacher, for `kdcourse.training.distill(features=[...])`.

    ``loss(student_features, teacher_features)``, a 0-d mean over the batch, is added to the distillation loss times
    ``weight``, a number. ``regressor`` maps the student's features first, to the teacher's width for example; it is
    trained with the student, by the same optimizer and under the same ``clip_norm``, and thrown away with the term;
    one that is frozen stays as it is. So is a ``loss`` that is a module with parameters. A term sees the whole batch,
    also what labels of -100 leave out. Of a layer that returns several tensors ``loss`` picks one.

    >>> from kdcourse.losses.features import hint_loss
    >>> from kdcourse.training import distill
    >>> student = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> teacher = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> hint = FeatureTerm("1", "1", hint_loss, weight=10.0, regressor=nn.Linear(3, 8))
    >>> before = hint.regressor.weight.clone()
    >>> found = distill(student, teacher, [torch.randn(16, 2)], alpha=1, features=[hint], epochs=1, progress=False)
    >>> torch.equal(hint.regressor.weight, before)
    False
    """

    student_layer: str
    teacher_layer: str
    loss: Callable[[Any, Any], Tensor]
    weight: float = 1.0
    regressor: nn.Module | None = None


@contextmanager
def outputs_of(model: nn.Module, names: Sequence[str]) -> Iterator[Recorded]:
    """Inside the block, record what the layers called ``names`` return whenever ``model`` is called.

    The names are those of ``model.named_modules()``. A copy is kept, with its gradient: an in-place ReLU after the
    layer does not change it; of a layer that returns several tensors, all. A call of the model forgets what the one
    before recorded. The hooks are gone at the end of the block. Raises ``ValueError`` for a name that does not exist,
    naming the nearest ones, for a layer that runs twice in one call, and where hooks do not run: inside compiled
    networks, and on several devices of ``nn.DataParallel``. Reading a layer that did not run raises ``KeyError``.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    >>> with outputs_of(model, ["0"]) as found:
    ...     logits = model(torch.ones(5, 2))
    >>> found["0"].shape
    torch.Size([5, 3])
    """
    layers = _layers(model, names)
    recorded = Recorded(names)
    hooks = [
        model.register_forward_pre_hook(lambda *_: recorded.begin(), prepend=True),
        model.register_forward_hook(lambda *_: recorded.end(), always_call=True),
    ]
    try:
        for name in recorded.names:  # after hooks that change the output: what the next layer gets
            hooks.append(layers[name].register_forward_hook(_recorder(name, recorded)))
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def _layers(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The layers of a model by name; raise unless those called ``names`` are among them and run their hooks."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must be a list of layers' names, as model.named_modules() gives them, got {names!r}")
    layers = dict(model.named_modules(remove_duplicate=False))
    for name in names:
        if not name or name not in layers:
            nearest = difflib.get_close_matches(name, layers, n=3) or [known for known in layers if known][:5]
            raise ValueError(f"there is no layer called {name!r}: did you mean {', '.join(map(repr, nearest))}?")
        path = name.split(".")
        for around in (layers[".".join(path[:depth])] for depth in range(len(path))):
            _check_hooks_run(name, around)
        if layers[name]._compiled_call_impl is not None:
            raise ValueError(f"{name!r} {COMPILED}")
    return layers


COMPILED = (
    "is compiled, and compiled code does not run hooks that come later: record from the network that was not "
    "compiled, model._orig_mod of a torch.compile(model), or compile after distillation"
)


def _check_hooks_run(name: str, around: nn.Module) -> None:
    compiled = hasattr(around, "_orig_mod") or around._compiled_call_impl is not None
    if compiled or isinstance(around, torch.jit.ScriptModule):
        raise ValueError(f"what {name!r} is a part of {COMPILED}")
    if isinstance(around, nn.DataParallel) and len(around.device_ids) > 1:
        raise ValueError(
            f"{name!r} runs once on each device of nn.DataParallel: record from its .module on one device, or use "
            "DistributedDataParallel"
        )


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
