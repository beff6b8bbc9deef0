"""Files of the stored language model in few bits, notebook 18: bytes that decode to the same logits, and latencies.

The matrices of the blocks are packed, embeddings and the last layer as well, these in 8 bits; norms and biases are in
float16. Scales are float16, chosen by clipping, and GPTQ works with these; embeddings, which read no numbers, are
clipped alone. Which of the 4-bit matrices have groups of 32 instead of 64 was chosen among four layouts on validation
speeches, with a calibration draw of its own. Five draws, those of `language_compression`. Latencies are medians of
calls that alternate, in onnxruntime with one thread.
"""

import copy
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from kdcourse.export import file_bytes, latency, pack_matmuls, session, to_onnx
from kdcourse.language import Decoder
from kdcourse.quantization import (
    QuantParams,
    bits_per_weight,
    choose_qparams,
    clipped_qparams,
    dequantize,
    fake_quantize,
    gptq,
    quantize,
    read_codes,
    read_packed,
    write_packed,
)

sys.path.insert(0, str(Path(__file__).resolve().parent))
import speeches  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
TABLES = 8  # bits of embeddings and last layer
FORMATS = (4, "chosen"), (8, "groups of 64"), (3, "groups of 64"), (2, "groups of 32")  # bits, layout
LAYOUTS = {  # what has groups of 32; the rest has 64
    "groups of 64": (),
    "value and out in groups of 32": ("value", "out"),
    "attention in groups of 32": ("query", "key", "value", "out"),
    "up and down in groups of 32": ("up", "down"),
    "groups of 32": speeches.PARTS,
}
TRIED, TRIAL = list(LAYOUTS)[:4], 5
WIDE, INTEGER = 4096, "4 bits, int8 products"
RECIPE: dict[str, Any] = {
    "network": {"the stored language model": speeches.digest()},
    "packed": {
        "matrices": "in bits and layout of the key",
        "embeddings and last layer": [TABLES, 64],
        "other": "float16",
    },
    "layouts tried on validation": TRIED,
    "methods": "gptq with clipped scales; plain rounding as the control",
    "latency": {"threads": 1, "repeats": 30, "wide layer": f"{WIDE} x {WIDE}, codes of 4 bits in groups of 32"},
    "judged": {"windows": speeches.JUDGED, "counted": "all but the first quarter of a window"},
}


def halved(params: QuantParams) -> QuantParams:
    """Scales that 16 bits hold."""
    return params._replace(scale=params.scale.half().float())


def chosen() -> str:
    """The layout that loses least on validation."""
    return min(TRIED, key=lambda layout: float(trial(layout)["validation"]))


def trial(layout: str) -> dict[str, Any]:
    def measure_trial() -> dict[str, Any]:
        model, _ = compressed("gptq, clipped", 4, layout, TRIAL)
        return {"validation": speeches.judge(model, "validation")["bits per character"]}

    return store.resume(RESULTS, {"part": "trial", "layout": layout}, measure_trial, recipe=RECIPE)


def compressed(method: str, bits: int, layout: str, draw: int) -> tuple[Decoder, dict[str, QuantParams]]:
    """A copy that computes with what the file will hold, and the grids of its matrices."""
    small = LAYOUTS[chosen() if layout == "chosen" else layout]
    model = copy.deepcopy(speeches.teacher()[0])
    read = [*speeches.names(model), "head"]
    inputs = speeches.hessians(model, speeches.drawn("speeches", draw), read) if method == "gptq, clipped" else {}
    grids: dict[str, QuantParams] = {}
    with torch.no_grad():
        for name in [*read, "token", "position"]:
            weight = model.get_submodule(name).weight
            width = bits if name.startswith("blocks.") else TABLES
            group = 32 if name.rpartition(".")[2] in small else 64
            if method == "rounding":
                params = halved(choose_qparams(weight, bits=width, group_size=group))
            else:
                params = halved(clipped_qparams(weight, bits=width, group_size=group, hessian=inputs.get(name)))
            if name in inputs:
                value = gptq(weight, inputs[name], bits=width, group_size=group, params=params)
            else:
                value = fake_quantize(weight, params)
            weight.copy_(value)
            grids[f"{name}.weight"] = params
        for value in model.parameters():
            if value.ndim == 1:
                value.copy_(value.half())
    return model, grids


def stored(model: Decoder, grids: dict[str, QuantParams]) -> dict[str, Tensor]:
    """The state dict to write: vectors in float16."""
    return {name: value.half() if value.ndim == 1 else value for name, value in model.state_dict().items()}


def matrix_bits(grids: dict[str, QuantParams], model: Decoder) -> float:
    """Bits per weight of the blocks' matrices: codes, scales and zero points."""
    names = [f"{name}.weight" for name in speeches.names(model)]
    shapes = {name: model.get_parameter(name).shape for name in names}
    each = {
        name: bits_per_weight(shape, bits=grids[name].bits, group_size=grids[name].group_size)
        for name, shape in shapes.items()
    }
    return sum(each[name] * shapes[name].numel() for name in names) / sum(shape.numel() for shape in shapes.values())


def measure_file(arm: str, bits: int, layout: str, draw: int) -> dict[str, Any]:
    model, grids = compressed(arm, bits, layout, draw)
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "packed.safetensors"
        write_packed(packed, stored(model, grids), grids)
        back = copy.deepcopy(speeches.teacher()[0])
        back.load_state_dict(read_packed(packed))
        sizes = {"bytes": file_bytes(packed), "float32 bytes": len(save(speeches.teacher()[0].state_dict()))}
    windows = speeches.judged("test")[:2]
    parameters = sum(value.numel() for value in model.parameters())
    with torch.no_grad():
        same = torch.equal(back(windows), model(windows))
    about = {
        "bits per weight of the matrices": matrix_bits(grids, model),
        "bits per parameter": 8 * sizes["bytes"] / parameters,
        "same logits": same,
    }
    return sizes | about | speeches.judge(back)


# --- latency ----------------------------------------------------------------------------------------------------------


def measure_latency(arm: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return (wide_layer if arm == "wide layer" else language_model)(Path(folder))


def language_model(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, size in (("one token", 1), ("one window", speeches.length())):
        example = speeches.judged("test")[:1, :size]
        calls = {}
        for bits in (4, 8):
            model, grids = compressed("rounding", bits, "groups of 64", 0)
            write_packed(folder / "packed", stored(model, grids), grids)
            to_onnx(model, folder / "float.onnx", example, input_names=["tokens"])
            codes = read_codes(folder / "packed")
            tables = {f"{each}.weight" for each in ("token", "position")}
            matrices = {key: pair for key, pair in codes.items() if key not in tables}
            pack_matmuls(folder / "float.onnx", folder / f"{bits}.onnx", matrices)
            if bits == 4:
                pack_matmuls(folder / "float.onnx", folder / "integer.onnx", matrices, integer_products=True)
                calls[INTEGER] = folder / "integer.onnx"
            found[f"{bits} bits, {name}, largest difference"] = difference(folder / f"{bits}.onnx", model, example)
            found[f"{bits} bits, {name}, bytes"] = file_bytes(folder / f"{bits}.onnx")
            calls[f"{bits} bits"] = folder / f"{bits}.onnx"
        found[f"float32, {name}, bytes"] = file_bytes(folder / "float.onnx")
        calls["float32"] = folder / "float.onnx"
        found |= timed(calls, example, name)
    return found


def difference(path: Path, model: nn.Module, example: Tensor) -> float:
    with torch.no_grad():
        return (session(path)(example) - model.eval()(example)).abs().max().item()


def wide_layer(folder: Path) -> dict[str, Any]:
    """A layer whose float32 weights, 64 MiB, do not fit into a processor's caches."""
    layer = nn.Linear(WIDE, WIDE, bias=False)
    nn.init.normal_(layer.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    weight = layer.weight.detach().clone()
    found: dict[str, Any] = {}
    calls, example = {}, torch.randn(1, 1, WIDE, generator=torch.Generator().manual_seed(1))
    for bits in (4, 8):
        params = choose_qparams(weight, bits=bits, group_size=32)
        codes = quantize(weight, params)
        layer.weight.data = dequantize(codes, params)
        to_onnx(layer, folder / "float.onnx", example)
        pack_matmuls(folder / "float.onnx", folder / f"{bits}.onnx", {"weight": (codes, params)})
        if bits == 4:
            pack_matmuls(
                folder / "float.onnx", folder / "integer.onnx", {"weight": (codes, params)}, integer_products=True
            )
            calls[INTEGER] = folder / "integer.onnx"
        found[f"{bits} bits, largest difference"] = difference(folder / f"{bits}.onnx", layer, example)
        found[f"{bits} bits, bytes"] = file_bytes(folder / f"{bits}.onnx")
        calls[f"{bits} bits"] = folder / f"{bits}.onnx"
    found["float32, bytes"] = file_bytes(folder / "float.onnx")
    calls["float32"] = folder / "float.onnx"
    for rows in (1, 256):
        found |= timed(calls, example.expand(1, rows, WIDE).reshape(rows, 1, WIDE).contiguous(), f"{rows} rows")
    return found


def timed(paths: dict[str, Path], example: Tensor, name: str) -> dict[str, float]:
    sessions = {each: session(path) for each, path in paths.items()}
    calls = {each: (lambda run=run: run(example)) for each, run in sessions.items()}  # type: ignore[misc]
    found = latency(calls, repeats=30, threads=1)
    return {f"{each}, {name}, ms": value.median for each, value in found.items()}


def measure(part: str, arm: str, **key: Any) -> dict[str, Any]:
    return measure_file(arm, **key) if part == "file" else measure_latency(arm)


def wanted() -> list[dict[str, Any]]:
    files = [("gptq, clipped", *each) for each in FORMATS] + [("rounding", 4, "chosen")]
    keys = [{"part": "file", "arm": arm, "bits": bits, "layout": layout} for arm, bits, layout in files]
    found = [key | {"draw": draw} for key in keys for draw in (speeches.DRAWS if key["arm"] != "rounding" else (0,))]
    return found + [{"part": "latency", "arm": arm} for arm in ("wide layer", "language model")]


def main() -> None:
    torch.set_num_threads(1)
    for layout in TRIED:
        trial(layout)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
