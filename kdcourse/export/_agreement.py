"""A file compared with the network that it was made from."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ._calls import Call, outputs_of
from .running import execute, feed, head, inputs_of, load


def check_repeatable(model: nn.Module, call: Call) -> None:
    """Raise where the same inputs give other outputs the second time."""
    first, second = outputs_of(model, call), outputs_of(model, call)
    for name, output in first.items():
        why = difference(second[name], output)
        if why:
            raise ValueError(
                f"the model gives another {name!r} for the same input each time ({why}), also in eval mode: "
                "give functional dropout training=self.training, and keep no state in forward"
            )


def check_agreement(
    content: bytes, model: nn.Module, call: Call, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Raise unless the content gives what the network does, on this batch, on one row of it and on one row more."""
    try:
        loaded = load(content)
    except ValueError as error:
        double = any(tensor.dtype == torch.float64 for tensor in call.leaves().values())
        hint = ": it lacks many float64 operators, export copy.deepcopy(model).float()" if double else ""
        raise ValueError(f"onnxruntime cannot run what was exported, {head(error.__cause__ or error)}{hint}") from None
    declared = inputs_of(loaded)
    for part in (call, call.map(lambda batch: batch[:1]), call.map(lambda batch: torch.cat([batch, batch[:1]]))):
        wanted = dict(zip(outputs, outputs_of(model, part).values(), strict=True))
        tensors = dict(zip(inputs, part.leaves().values(), strict=True))
        found = execute(loaded, feed(declared, (), {part.name: tensors[part.name] for part in declared}))
        check_equal(found, wanted, f"on {len(next(iter(tensors.values())))} rows")


def check_equal(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Raise naming the first output that differs."""
    for name, output in wanted.items():
        why = difference(found[name], output.cpu())
        if why:
            raise ValueError(f"the file would not compute what the model does: output {name!r} differs {where} ({why})")


def difference(found: Tensor, wanted: Tensor) -> str:
    """In which way two outputs differ, or nothing: floats must agree to half of their type's digits."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        shapes = [f"{part.dtype} {tuple(part.shape)}" for part in (found, wanted)]
        return f"{shapes[0]}, not {shapes[1]}"
    if not wanted.is_floating_point():
        wrong = int((found != wanted).sum())
        return f"{wrong} of {wanted.numel()} numbers" if wrong else ""
    close = torch.finfo(wanted.dtype).eps ** 0.5
    found, wanted = found.double(), wanted.double()
    gaps = (found - wanted)[~((found == wanted) | (found.isnan() & wanted.isnan()))].abs()
    if not gaps.isfinite().all():
        return "NaN or infinity in other places"
    largest = wanted[wanted.isfinite()].abs().amax().item() if len(gaps) else 0.0
    if len(gaps) == 0 or gaps.max() <= close * largest + close**4:
        return ""
    return f"by up to {gaps.max():.2g}, its largest number being {largest:.2g}"
