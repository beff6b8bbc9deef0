"""A network's state dict as one file, some of its weights as codes of a few bits: smaller on the disk, and exact."""

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .._base.files import read_whole, write_whole
from .affine import QuantParams, dequantize, quantize
from .packing import pack_codes, unpack_codes

StrPath = str | os.PathLike[str]


@torch.no_grad()
def write_packed(path: StrPath, state: Mapping[str, Tensor], params: Mapping[str, QuantParams]) -> None:
    """Write a state dict as one safetensors file: of the weights named in ``params`` codes and scales, all else as is.

    Such a weight must be what its codes stand for, `fake_quantize` (weight, params) or `gptq` with these: it is read
    back bit for bit, or refused here. Codes are packed, ``bits`` each; scales take 16 bits where float16 holds all of
    them exactly, else their own; zero points are packed like codes, and symmetric weights have none. The file is
    written beside ``path`` and renamed.

    Raises ``TypeError`` for what is not a state dict of tensors, ``ValueError`` for a name in ``params`` that is not in
    ``state``, a weight that is not on its grid, and a name that ends like the file's own entries (".codes", ".scale",
    ".zero").

    >>> weight = torch.randn(8, 64)
    >>> params = choose_qparams(weight, bits=4, group_size=32)
    >>> state = {"weight": fake_quantize(weight, params), "bias": torch.zeros(8)}
    >>> write_packed("layer.safetensors", state, {"weight": params})
    >>> torch.equal(read_packed("layer.safetensors")["weight"], state["weight"])
    True
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a state dict, got {type(state).__name__}: pass model.state_dict()")
    strange = sorted(name for name, value in state.items() if not isinstance(value, Tensor))
    if strange:
        raise TypeError(f"{strange} are not tensors, and the file takes nothing else: leave them out")
    missing = sorted(params.keys() - state.keys())
    if missing:
        raise ValueError(f"params name {missing}, which are not in the state dict")
    taken = [name for name in state if name.endswith((".codes", ".scale", ".zero"))]
    if taken:
        raise ValueError(f"{taken} end like the names that the file gives to parts of a weight: rename them")
    tensors, about = dict[str, Tensor](), dict[str, Any]()
    for name, value in state.items():
        if name in params:
            parts, about[name] = _packed(name, value.detach().cpu(), params[name])
            tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        else:
            tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    write_whole(path, save(tensors, metadata={"packed": json.dumps(about)}))


def read_packed(path: StrPath) -> dict[str, Tensor]:
    """The state dict that `write_packed` wrote, weights as floats, on the CPU.

    Raises ``FileNotFoundError``, or ``ValueError`` naming the file when it is damaged or of another kind.

    >>> params = choose_qparams(torch.eye(2), bits=2, axis=0)
    >>> write_packed("eye.safetensors", {"weight": torch.eye(2)}, {"weight": params})
    >>> read_packed("eye.safetensors")
    {'weight': tensor([[1., 0.],
            [0., 1.]])}
    """
    tensors, found = _read(path)
    parts = {f"{name}.{part}" for name in found for part in ("codes", "scale", "zero")}
    weights = {name: dequantize(codes, params) for name, (codes, params) in found.items()}
    return weights | {name: tensor for name, tensor in tensors.items() if name not in parts}


def read_codes(path: StrPath) -> dict[str, tuple[Tensor, QuantParams]]:
    """The packed weights of a file by name: their codes and what these stand for. Raises as `read_packed`.

    >>> params = choose_qparams(torch.eye(2), bits=2, axis=0)
    >>> write_packed("eye.safetensors", {"weight": torch.eye(2)}, {"weight": params})
    >>> read_codes("eye.safetensors")["weight"][0]
    tensor([[3, 0],
            [0, 3]], dtype=torch.uint8)
    """
    return _read(path)[1]


def _read(path: StrPath) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, QuantParams]]]:
    """All tensors of the file as they lie there, and the packed weights."""
    data = read_whole(path)
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tensors, about = load(data), json.loads(header["__metadata__"]["packed"])
        return tensors, {name: _unpacked(tensors, name, facts) for name, facts in about.items()}
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or was not written by write_packed: {error}") from error


def _packed(name: str, weight: Tensor, params: QuantParams) -> tuple[dict[str, Tensor], dict[str, Any]]:
    codes = quantize(weight, params)
    if not torch.equal(dequantize(codes, params), weight):
        raise ValueError(
            f"{name!r} is not what its codes stand for: write fake_quantize(weight, params), or gptq(…, params=params)"
        )
    half = params.scale.half()
    scale = half if torch.equal(half.to(params.scale.dtype), params.scale) else params.scale
    # a copy, since tied weights share their params
    parts = {"codes": pack_codes(codes.int() - params.qmin, bits=params.bits), "scale": scale.clone()}
    if params.zero_point.any():
        parts["zero"] = pack_codes(params.zero_point - params.qmin, bits=params.bits)
    dtype = str(params.scale.dtype).removeprefix("torch.")
    return parts, {"shape": list(weight.shape), "dtype": dtype, **_facts(params)}


def _facts(params: QuantParams) -> dict[str, Any]:
    names = "bits", "qmin", "qmax", "axis", "group_size"
    return {name: getattr(params, name) for name in names}


def _unpacked(tensors: Mapping[str, Tensor], name: str, facts: Mapping[str, Any]) -> tuple[Tensor, QuantParams]:
    bits, qmin = facts["bits"], facts["qmin"]
    scale = tensors[f"{name}.scale"].to(getattr(torch, facts["dtype"]))
    zero_point = torch.zeros(scale.shape, dtype=torch.int32)
    if f"{name}.zero" in tensors:
        zero_point = unpack_codes(tensors[f"{name}.zero"], bits=bits, shape=scale.shape).int() + qmin
    codes = unpack_codes(tensors[f"{name}.codes"], bits=bits, shape=facts["shape"]).int() + qmin
    params = QuantParams(scale, zero_point, bits, qmin, facts["qmax"], facts["axis"], facts["group_size"])
    return codes.to(torch.uint8 if qmin >= 0 else torch.int8), params
