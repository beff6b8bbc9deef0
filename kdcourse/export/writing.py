"""PyTorch networks written as ONNX files, each compared with the network before it leaves."""

from collections.abc import Sequence

import torch
from torch import nn

from .._base.extras import needed
from .._base.files import write_whole
from ..quantization.qat import ActivationQuantizer, LearnedStep, WeightQuantizer
from ..training import frozen
from ._agreement import check_agreement, check_repeatable
from ._calls import call_of, outputs_of
from ._quiet import quiet
from ._tracing import check_traced, culprit, reason, traced
from .running import Batch, StrPath

MOST_BYTES = 2**31  # what fits into one protobuf message


def to_onnx(
    model: nn.Module,
    path: StrPath,
    example: Batch,
    *,
    opset: int = 20,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Write ``model``, in eval mode, as one ONNX file for any batch size, compared with the model before it leaves.

    ``example`` is a batch like those to come: a tensor, or several as a tuple, or as a dict by forward's parameters.
    The first dimension of each is the batch; the others are fixed. One input is named "images", several after
    forward's parameters; one output "logits", several by their keys or fields, or "output_0" and so on.
    ``input_names`` and ``output_names`` replace these names. Masks and codebooks become the weights that they make;
    ``torch.compile`` and ``DataParallel`` are looked through; a fake-quantized model has to be baked first.

    Before the file is written, whole or not at all, onnxruntime runs it on the example, on one row and on one row
    more: each output must agree to half of its type's digits. The model's modes are restored.

    Raises ``ValueError`` naming the layer that cannot be exported, for an ``opset`` that is not written, and for a
    file that computes something else; ``TypeError`` for what is not a network or not a tensor.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> to_onnx(network, "network.onnx", torch.zeros(2, 1, 28, 28))
    >>> run("network.onnx", torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """
    onnx = needed("onnx", extra="export")
    needed("onnxscript", extra="export")
    newest = onnx.defs.onnx_opset_version()
    if not isinstance(opset, int) or isinstance(opset, bool) or not 1 <= opset <= newest:
        raise ValueError(f"opset must be an integer from 1 to {newest}, the newest that this onnx knows, got {opset!r}")
    model = _unwrapped(model)
    call = call_of(model, example)
    with frozen(model), torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"), quiet():
        outputs = _names("output_names", output_names, list(outputs_of(model, call)))
        inputs = list(call.leaves())
        inputs = _names("input_names", input_names, ["images"] if len(inputs) == 1 else inputs, taken=outputs)
        check_repeatable(model, call)
        try:
            exported = traced(model, call, opset, inputs, outputs)
        except Exception as error:  # the exporter raises many kinds
            raise ValueError(f"{culprit(model, call, error)} cannot be exported to ONNX: {reason(error)}") from None
        check_traced(exported, opset)
        onnx.checker.check_model(exported, full_check=True)
        content = exported.SerializeToString()
        check_agreement(content, model, call, inputs, outputs)
    write_whole(path, content)


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network itself; raises for what no file can be made of."""
    inner: object = model
    while isinstance(inner, nn.Module):
        model = inner
        parallel = isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel)
        inner = inner.module if parallel else getattr(inner, "_orig_mod", None)  # what torch.compile keeps
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("a scripted or traced model cannot be exported: pass the nn.Module that it was made from")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    if any(isinstance(part, ActivationQuantizer | LearnedStep | WeightQuantizer) for part in model.modules()):
        raise ValueError("the model is fake-quantized: bake() it first, and quantize_static() gives the int8 file")
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size >= MOST_BYTES:
        raise ValueError(f"the model has {size:,} bytes and one ONNX file holds less than {MOST_BYTES:,}: write it by"
                         " torch.onnx.export(…, external_data=True)")  # fmt: skip
    return model


def _names(what: str, wanted: Sequence[str] | None, found: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """The names to write: as many as there are, no two equal."""
    names = list(found if wanted is None else wanted)
    if isinstance(wanted, str) or len(names) != len(found) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{what} must be a list of {len(found)} names (of {list(found)}), got {wanted!r}")
    if len({*names, *taken}) < len(names) + len(taken):
        raise ValueError(f"inputs and outputs need names of their own, got {[*names, *taken]}: pass {what}")
    return names
