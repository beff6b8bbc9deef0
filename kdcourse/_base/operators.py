"""The operators that a function runs, and the products of matrices among them."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


def count_operations(function: Callable[[], object]) -> tuple[int, list[str]]:
    """Multiplications and additions in the products of matrices, and the names of those that could not be counted."""
    counter = FlopCounterMode(display=False, custom_mapping=_FLOPS)
    with _Seen() as seen, counter:
        function()
    uncounted = sorted(operator for operator in seen.operators if _is_product(operator, counter.flop_registry))
    return int(counter.get_total_flops()), uncounted


class _Seen(TorchDispatchMode):
    """Notes every operator that runs inside, as ``namespace::name``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.add(str(func._schema.name) if hasattr(func, "_schema") else str(func))
        return func(*args, **kwargs or {})


def _is_product(operator: str, counted: Mapping[Any, Any]) -> bool:
    """Whether an operator without a formula multiplies matrices, or is of another library and so might."""
    space, _, name = operator.partition("::")
    if space not in ("aten", "prim", "prims", "profiler", "higher_order"):
        return True
    return f"{space}.{name}" not in map(str, counted) and bool(_PRODUCTS.search(name))


def _layers(rows: Sequence[int], weights: Sequence[Sequence[int]]) -> int:
    """Operations where every row of inputs (..., features) meets each weight matrix of a recurrent layer."""
    return 2 * math.prod(rows[:-1]) * sum(math.prod(shape) for shape in weights if len(shape) == 2)


# single operators for recurrent layers, and products with a vector, which the counter has no formula for
_FLOPS = {
    torch.ops.aten.mkldnn_rnn_layer: lambda rows, first, second, *_, **options: _layers(rows, (first, second)),
    torch.ops.aten._cudnn_rnn: lambda rows, weights, *_, **options: _layers(rows, weights),
    torch.ops.aten.mv: lambda matrix, *_, **options: 2 * math.prod(matrix),
    torch.ops.aten.addmv: lambda added, matrix, *_, **options: 2 * math.prod(matrix),
    torch.ops.aten.dot: lambda vector, *_, **options: 2 * math.prod(vector),
}
_PRODUCTS = re.compile(
    r"mm(_|$)|mv$|dot$|matmul|conv(?!ert)|_rnn|_lstm|attention|mkldnn_linear|^linear|_trilinear|_cdist_fo"
)
