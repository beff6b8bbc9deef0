"""PyTorch's exporter: what it is given, what it must have made of it, and who is to blame where it fails."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ._calls import Call
from .running import head


def traced(model: nn.Module, call: Call, opset: int, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """The ONNX model of a network, without traces of the machine that it was made on."""
    if torch.__version__ < (2, 9):  # type: ignore[operator]
        # 2.8 falls back on a tracer that drops a branch on the data without a word: this one refuses it
        torch.export.export(model, call.positional, call.named, dynamic_shapes=dynamic(call), strict=False)
    program = torch.onnx.export(
        model,
        call.positional,
        kwargs=call.named,
        input_names=list(inputs),
        output_names=list(outputs),
        opset_version=opset,
        dynamo=True,
        dynamic_shapes=dynamic(call),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    exported = program.model_proto
    for part in (exported.graph, *exported.graph.node, *exported.graph.value_info, *exported.graph.input):
        part.ClearField("metadata_props")  # where in which source file each operator came from
    return exported


def dynamic(call: Call) -> dict[str, Any]:
    """The same free first dimension for all inputs."""
    batch = torch.export.Dim("batch")
    return call.map(lambda tensor: {0: batch}).by_parameter


def check_traced(exported: Any, opset: int) -> None:
    """Raise unless the file has the operator set that was asked for, and takes any batch size."""
    (written,) = (part.version for part in exported.opset_import if part.domain == "")
    if written != opset:
        raise ValueError(f"opset {opset} was asked for and the exporter can only write {written} for this model: "
                         f"pass opset={written}, or a newer one")  # fmt: skip
    for part in exported.graph.input:
        if not part.type.tensor_type.shape.dim[0].dim_param:
            raise ValueError(f"the file would take input {part.name!r} in this batch size alone, because forward makes "
                             "a Python number of it: use x.shape[0] in place of len(x) or int(…)")  # fmt: skip


def culprit(model: nn.Module, call: Call, error: Exception) -> str:
    """The module in whose forward the trace breaks off, or whose operator has no ONNX, to name in a message."""
    entered: list[str] = []
    names = {module: name for name, module in model.named_modules()}

    def enter(module: nn.Module, arguments: object) -> None:
        entered.append(names[module])

    def leave(module: nn.Module, arguments: object, output: object) -> None:
        entered.pop()

    handles = [part.register_forward_pre_hook(enter) for part in names]
    handles += [part.register_forward_hook(leave) for part in names]
    try:
        program = torch.export.export(
            model, call.positional, call.named, dynamic_shapes=dynamic(call), strict=False
        ).run_decompositions()
        entered += _owner(program.graph, error)
    except Exception:
        pass  # the name is what counts
    finally:
        for handle in handles:
            handle.remove()
    name = entered[-1] if entered else ""
    kind = type(model.get_submodule(name)).__name__
    return f"layer {name!r}, {kind}," if name else f"the model, {kind},"


def reason(error: BaseException) -> str:
    """Why, in a line: the exporter's own message is pages long."""
    while error.__cause__ is not None:
        error = error.__cause__
    why = head(error)
    if "data-dependent" in why:
        why += " (an if, a loop or a shape that depends on the data: use torch.where or torch.cond)"
    return why


def _owner(graph: torch.fx.Graph, error: Exception) -> list[str]:
    """The module of the operator that the exporter's message names, if it names one."""
    named = re.search(r"translating node %(\w+) :", str(error.__cause__))
    stacks = [node.meta.get("nn_module_stack", {}) for node in graph.nodes if named and node.name == named[1]]
    return [list(stack.values())[-1][0] for stack in stacks if stack]
