"""One call of a network: its inputs by the names of forward's parameters, and its outputs by name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from .running import Batch, head


class Call(NamedTuple):
    """Arguments of forward, by parameter and as they are passed; every leaf is a batch."""

    by_parameter: dict[str, Any]
    positional: tuple[Any, ...]
    named: dict[str, Any]

    def map(self, change: Callable[[Tensor], Any]) -> "Call":
        """The same call of changed tensors."""
        return Call(*tree_map(change, tuple(self)))

    def leaves(self) -> dict[str, Tensor]:
        """The tensors by name, in the order in which they are passed."""
        found: dict[str, Tensor] = {}
        for name, value in self.by_parameter.items():
            if isinstance(value, Mapping):  # **inputs
                found |= value
            elif isinstance(value, tuple):  # *inputs
                found |= {f"{name}_{place}": tensor for place, tensor in enumerate(value)}
            else:
                found[name] = value
        return found


def call_of(model: nn.Module, example: Batch) -> Call:
    """The call that an example stands for, of at least two rows; raises where it is not a batch or does not fit."""
    positional: tuple[Tensor, ...] = ()
    named: dict[str, Tensor] = {}
    if isinstance(example, Mapping):
        named = dict(example)
    else:
        positional = (example,) if isinstance(example, Tensor) else tuple(example)
    for name, tensor in [*zip(map(str, range(len(positional))), positional, strict=True), *named.items()]:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"example[{name!r}] must be a torch.Tensor, got {type(tensor).__name__}: "
                "fix other arguments in a module around this one"
            )
    shapes = [tuple(tensor.shape) for tensor in (*positional, *named.values())]
    if not shapes or any(len(shape) == 0 or shape[0] == 0 for shape in shapes):
        raise ValueError(f"example must be a batch of at least one input, got shape {shapes or None}")
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"the first dimension of every input must be the batch, one size for all, got shapes {shapes}")
    dtypes = {tensor.dtype for tensor in (*positional, *named.values(), *model.parameters())}
    if torch.bfloat16 in dtypes:
        raise ValueError("onnxruntime has no bfloat16 operators for the CPU: export copy.deepcopy(model).float()")
    signature = inspect.signature(model.forward)
    try:
        bound = signature.bind(*positional, **named)
    except TypeError as error:
        raise ValueError(f"example does not fit forward{signature}: {error}") from None
    call = Call(dict(bound.arguments), bound.args, bound.kwargs)
    # a batch of one would be taken for a constant, one tensor for several inputs as the only case (attention does)
    return call.map(lambda tensor: tensor.clone() if len(tensor) > 1 else torch.cat([tensor, tensor]))


def outputs_of(model: nn.Module, call: Call) -> dict[str, Tensor]:
    """What the network returns, by name: "logits" for one tensor, keys or fields, or "output_0" and so on."""
    try:
        with torch.no_grad():
            result = model(*call.positional, **call.named)
    except Exception as error:  # whatever the layers raise
        raise ValueError(f"the model does not run on this example ({head(error)})") from error
    outputs = _leaves("output", result)
    wrong = {name: type(value).__name__ for name, value in outputs.items() if not isinstance(value, Tensor)}
    if wrong or not outputs:
        raise ValueError(f"the model must return tensors, got {wrong or type(result).__name__}")
    if list(outputs) in (["output"], ["output_0"]):
        return {"logits": next(iter(outputs.values()))}
    return {name: tensor.detach() for name, tensor in outputs.items()}


def _leaves(name: str, value: Any) -> dict[str, Any]:
    """Tensors within dicts and tuples, under the path to them; None is none."""
    if isinstance(value, Mapping):
        parts = {str(key): part for key, part in value.items()}
    elif isinstance(value, tuple | list):
        fields: Sequence[str] | None = getattr(value, "_fields", None)
        parts = dict(zip(fields or [f"{name}_{place}" for place in range(len(value))], value, strict=True))
    else:
        return {} if value is None else {name: value}
    found: dict[str, Any] = {}
    for key, part in parts.items():
        found |= _leaves(key, part)
    return found
