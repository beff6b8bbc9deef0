"""The comparisons of notebook 18 that train nothing: the stored language model in few bits, pruned, of low rank.

The matrices of its blocks are compressed, all of them in the same way; embeddings, norms, biases and the last layer
stay in floats. Judged on 64 windows of the test speeches. What needs text to calibrate on has five draws of 16 windows
of training speeches (4 windows for activation-aware scales and smoothing), the same five for every method: they are
the pairs. Nothing is tuned: every method has one try, with the settings of its authors.
"""

import copy
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdcourse.language import Decoder
from kdcourse.pruning import magnitude_mask, nm_mask, random_mask, sparsegpt, wanda_mask
from kdcourse.quantization import (
    awq,
    calibrate,
    choose_qparams,
    clipped_qparams,
    fake_quantize,
    fake_quantize_model,
    gptq,
    normal_floats,
    quantize_cache,
    smooth,
)

sys.path.insert(0, str(Path(__file__).resolve().parent))
import speeches  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
FEW = 4  # windows for what runs the network again and again in float64
FACTOR, PLANTED = 100.0, {"blocks.0.norm1": 3, "blocks.2.norm1": 5, "blocks.3.norm2": 11}  # norm: channel
OFFSET = 20.0  # added to channels of all keys
RECIPE: dict[str, Any] = {
    "network": {"the stored language model": speeches.digest()},
    "compressed": "the six matrices of every block",
    "judged": {"windows": speeches.JUDGED, "counted": "all but the first quarter of a window"},
    "calibration": {"windows": speeches.CALIBRATION, "awq and smooth": FEW},
    "codes": "affine, of the extremes of an output or a group, unless the arm says symmetric",
    "planted": {"factor": FACTOR, "channels": PLANTED, "offset of keys": OFFSET},
    "other texts": "random characters; shuffled speeches; Python's argparse, inspect and typing",
}
Change = Callable[[str, Tensor], Tensor]


@cache
def seen(draw: int, kind: str = "speeches") -> dict[str, Tensor]:
    return speeches.hessians(speeches.teacher()[0], speeches.drawn(kind, draw))


def rounded(weight: Tensor, bits: int, group: int | None, *, symmetric: bool = False) -> Tensor:
    return fake_quantize(weight, choose_qparams(weight, bits=bits, symmetric=symmetric, axis=0, group_size=group))


def clipped(weight: Tensor, bits: int, group: int | None, hessian: Tensor | None = None) -> Tensor:
    return fake_quantize(weight, clipped_qparams(weight, bits=bits, group_size=group, hessian=hessian))


# --- few bits ---------------------------------------------------------------------------------------------------------


def by_weights(method: str, bits: int, group: int | None) -> Decoder:
    """What looks at the weights alone."""
    changes: dict[str, Change] = {
        "rounding": lambda name, weight: rounded(weight, bits, group),
        "rounding, symmetric": lambda name, weight: rounded(weight, bits, group, symmetric=True),
        "clipped": lambda name, weight: clipped(weight, bits, group),
        "normal floats": lambda name, weight: normal_floats(weight, bits=bits, group_size=group).weight(),
    }
    return speeches.changed(speeches.teacher()[0], changes[method])


def by_text(method: str, bits: int, group: int | None, draw: int, text: str = "speeches") -> Decoder:
    """What looks at the inputs of the weights as well."""
    model = speeches.teacher()[0]
    if method == "gptq, inputs as rounded so far":
        return in_turn(bits, group, draw)
    if method.startswith("awq"):
        model = activation_aware(model, speeches.drawn(text, draw, FEW), bits, group)
        if method == "awq":
            return speeches.changed(model, lambda name, weight: rounded(weight, bits, group))
        again = speeches.hessians(model, speeches.drawn(text, draw))
        return speeches.changed(model, lambda name, weight: gptq(weight, again[name], bits=bits, group_size=group))
    inputs = seen(draw, text)

    def fixed(name: str, weight: Tensor) -> Tensor:
        params = clipped_qparams(weight, bits=bits, group_size=group, hessian=inputs[name])
        return gptq(weight, inputs[name], bits=bits, group_size=group, params=params)

    changes: dict[str, Change] = {
        "clipped for outputs": lambda name, weight: clipped(weight, bits, group, inputs[name]),
        "gptq": lambda name, weight: gptq(weight, inputs[name], bits=bits, group_size=group),
        "gptq, clipped": fixed,
    }
    return speeches.changed(model, changes[method])


def activation_aware(model: Decoder, windows: Tensor, bits: int, group: int | None) -> Decoder:
    for norm, readers in norms(model):
        model = awq(model, windows, norm=norm, readers=readers, bits=bits, group_size=group)
    return model


def norms(model: Decoder) -> list[tuple[str, list[str]]]:
    """Each norm of a block with all that read it."""
    return [
        (f"blocks.{number}.{norm}", [f"blocks.{number}.{part}" for part in parts])
        for number in range(len(model.blocks))
        for norm, parts in speeches.READERS.items()
    ]


def in_turn(bits: int, group: int | None, draw: int) -> Decoder:
    """GPTQ block by block, the inputs of each coming from the network whose earlier blocks are rounded already."""
    return one_block_after_another(draw, lambda weight, hessian: gptq(weight, hessian, bits=bits, group_size=group))


def one_block_after_another(draw: int, change: Callable[[Tensor, Tensor], Tensor]) -> Decoder:
    model, windows = copy.deepcopy(speeches.teacher()[0]), speeches.drawn("speeches", draw)
    for number in range(len(model.blocks)):
        which = [name for name in speeches.names(model) if name.startswith(f"blocks.{number}.")]
        inputs = speeches.hessians(model, windows, which)
        model = speeches.changed(model, lambda name, weight: change(weight, inputs[name]), which)  # noqa: B023
    return model


# --- outliers ---------------------------------------------------------------------------------------------------------


def planted(model: Decoder) -> Decoder:
    """The same function: some channels of norms times 100, what reads them divided by 100."""
    result = copy.deepcopy(model)
    readers = dict(norms(model))
    with torch.no_grad():
        for norm, channel in PLANTED.items():
            layer = result.get_submodule(norm)
            layer.weight[channel] *= FACTOR
            layer.bias[channel] *= FACTOR
            for name in readers[norm]:
                result.get_submodule(name).weight[:, channel] /= FACTOR
    return result


def with_outliers(method: str, is_planted: bool, draw: int) -> torch.nn.Module:
    model, few = speeches.teacher()[0], speeches.drawn("speeches", draw, FEW)
    model = planted(model) if is_planted else model
    if "smoothed" in method:
        for norm, readers in norms(model):
            model = smooth(model, few, norm=norm, readers=readers)
    if method.startswith("int8"):
        which = dict.fromkeys(speeches.names(model), 8)
        ranges = calibrate(model, list(speeches.drawn("speeches", draw).split(speeches.BATCH)))
        return fake_quantize_model(model, weight_bits=which, activation_bits=8, ranges=ranges)
    if "awq" in method:
        model = activation_aware(model, few, 4, 32)
    if "gptq" in method:
        inputs = speeches.hessians(model, speeches.drawn("speeches", draw))
        return speeches.changed(model, lambda name, weight: gptq(weight, inputs[name], bits=4, group_size=32))
    return speeches.changed(model, lambda name, weight: rounded(weight, 4, 32))


# --- pruning ----------------------------------------------------------------------------------------------------------


def pruned(method: str, pattern: str, draw: int) -> Decoder:
    amount: dict[str, Any] = {"n": 2, "m": 4} if pattern == "2:4" else {"sparsity": 0.5}
    name, _, text = method.partition(", calibrated on ")
    inputs = seen(draw, text or "speeches") if name in ("wanda", "sparsegpt") else {}

    def norms_of(hessian: Tensor) -> Tensor:
        return hessian.diagonal().sqrt().diag()  # rows with the same norms as the inputs

    def random(layer: str, weight: Tensor) -> Tensor:
        number = 100 * draw + speeches.names(speeches.teacher()[0]).index(layer)
        if pattern != "2:4":
            return weight * random_mask(weight, 0.5, seed=number)
        return weight * nm_mask(torch.rand(weight.shape, generator=torch.Generator().manual_seed(number)))

    def by_size(layer: str, weight: Tensor) -> Tensor:
        if pattern == "2:4":
            return weight * nm_mask(weight)
        if name == "magnitude":
            return weight * magnitude_mask(weight, 0.5)
        return weight * wanda_mask(weight, torch.eye(weight.shape[1]), sparsity=0.5)  # within each output, as Wanda

    if name == "wanda, inputs as pruned so far":
        return one_block_after_another(
            draw, lambda weight, hessian: weight * wanda_mask(weight, norms_of(hessian), **amount)
        )
    changes: dict[str, Change] = {
        "random": random,
        "magnitude": by_size,
        "magnitude within outputs": by_size,
        "wanda": lambda layer, weight: weight * wanda_mask(weight, norms_of(inputs[layer]), **amount),
        "sparsegpt": lambda layer, weight: sparsegpt(weight, inputs[layer], **amount)[1],
    }
    return speeches.changed(speeches.teacher()[0], changes[name])


# --- low rank ---------------------------------------------------------------------------------------------------------


def low_rank(weight: Tensor, rank: int, hessian: Tensor | None = None) -> Tensor:
    """The matrix of this rank that is nearest to ``weight``, or whose outputs are, with the inputs' Hessian."""
    wide = weight.double()
    if hessian is None:
        left, singular, right = torch.linalg.svd(wide, full_matrices=False)
        return ((left[:, :rank] * singular[:rank]) @ right[:rank]).to(weight)
    hessian = hessian + 1e-6 * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    root = torch.linalg.cholesky(hessian)  # ‖Δ·root‖² = Δ·H·Δᵀ
    left, singular, right = torch.linalg.svd(wide @ root, full_matrices=False)
    thin = (left[:, :rank] * singular[:rank]) @ right[:rank]
    return torch.linalg.solve_triangular(root, thin, upper=False, left=False).to(weight)


def thin(method: str, rank: int, draw: int) -> Decoder:
    """Of low rank, or 2-bit weights and the rounding error's best approximation of low rank beside them."""
    inputs = seen(draw) if "outputs" in method else {}

    def change(name: str, weight: Tensor) -> Tensor:
        if not method.startswith("2 bits"):
            return low_rank(weight, rank, inputs.get(name))
        coarse = rounded(weight, 2, 32)
        return coarse + low_rank(weight - coarse, rank, inputs.get(name))

    return speeches.changed(speeches.teacher()[0], change)


# --- the cache --------------------------------------------------------------------------------------------------------

WAYS = {
    "keys by channel, values by token": ("channel", "token"),
    "keys by token, values by channel": ("token", "channel"),
    "both by token": ("token", "token"),
    "both by channel": ("channel", "channel"),
    "keys alone, by channel": ("channel", None),
    "keys alone, by token": ("token", None),
    "values alone, by channel": (None, "channel"),
    "values alone, by token": (None, "token"),
}


def shifted(model: Decoder) -> Decoder:
    """The same function: a number added to one channel in eight of all keys."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for block in result.blocks:
            block.key.bias[::8] += OFFSET
    return result


@torch.no_grad()
def cached(way: str, bits: int, is_shifted: bool) -> dict[str, float]:
    """Three quarters of every window are read, their cache is rounded, and the last quarter is predicted with it."""
    model = speeches.teacher()[0]
    model = shifted(model) if is_shifted else model
    windows = speeches.judged("test")
    start = 3 * speeches.length() // 4
    found: dict[str, list[Tensor]] = {"before": [], "after": []}
    for part in windows.split(speeches.BATCH):
        _, cache = model.read(part[:, :start])
        for name, entries in (("before", cache), ("after", [rounded_pair(pair, way, bits) for pair in cache])):
            found[name].append(model.read(part[:, start:-1], entries)[0])
    targets = windows[:, start + 1 :]
    before, after = (speeches.Judged(torch.cat(found[name]), targets) for name in ("before", "after"))
    return speeches.compare(after, before) | {"before": speeches.bits_of(before)}


def rounded_pair(pair: tuple[Tensor, Tensor], way: str, bits: int) -> tuple[Tensor, Tensor]:
    first, second = (
        entries if by is None else quantize_cache(entries, bits=bits, by=by)  # type: ignore[arg-type]
        for entries, by in zip(pair, WAYS[way], strict=True)
    )
    return first, second


# --- all of it --------------------------------------------------------------------------------------------------------


def measure(part: str, arm: str, **key: Any) -> dict[str, Any]:
    if part == "float":
        return speeches.judge(speeches.teacher()[0])
    if part == "cache":
        return cached(arm, key["bits"], key["shifted"])
    draw = key.get("draw", 0)
    if part == "bits":
        bits, group, text = key["bits"], key["group"] or None, key.get("text", "speeches")
        model = by_text(arm, bits, group, draw, text) if "draw" in key else by_weights(arm, bits, group)
    elif part == "outliers":
        model = with_outliers(arm, key["planted"], draw)
    elif part == "pruning":
        model = pruned(arm, key["pattern"], draw)
    else:
        model = thin(arm, key["rank"], draw)
    return speeches.judge(model)


def wanted() -> list[dict[str, Any]]:
    """What the notebook's first claims need first."""
    first = [{"part": "float", "arm": "float"}, *few_bits()]
    return first + caches() + pruning() + ranks() + other_texts() + outliers() + slow()


def each_draw(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [key | {"draw": draw} for key in keys for draw in speeches.DRAWS]


def few_bits() -> list[dict[str, Any]]:
    alone = [{"part": "bits", "arm": "rounding", "bits": 8, "group": group} for group in (0, 32)]
    for arm in ("rounding", "rounding, symmetric", "clipped", "normal floats"):
        for group in (0, 64, 32, 16):
            alone += [{"part": "bits", "arm": arm, "bits": bits, "group": group} for bits in (4, 3, 2)]
    text = [
        {"part": "bits", "arm": arm, "bits": bits, "group": group, "text": "speeches"}
        for arm in ("gptq", "clipped for outputs", "gptq, clipped")
        for bits in (3, 4, 2)
        for group in (0, 32)
    ]
    return alone + each_draw(text)


def other_texts() -> list[dict[str, Any]]:
    """GPTQ calibrated on what is no speech."""
    kinds = "random characters", "shuffled", "program code"
    key = {"part": "bits", "arm": "gptq", "group": 32}
    return each_draw([key | {"bits": bits, "text": kind} for bits in (3, 2) for kind in kinds])


def slow() -> list[dict[str, Any]]:
    """Activation-aware scales, and GPTQ block by block."""
    arms = [(arm, bits) for arm in ("awq", "awq, gptq") for bits in (3, 4, 2)]
    arms += [("gptq, inputs as rounded so far", bits) for bits in (3, 2)]
    keys = [{"part": "bits", "arm": arm, "bits": bits, "group": 32, "text": "speeches"} for arm, bits in arms]
    return each_draw([*keys, {"part": "bits", "arm": "awq", "bits": 3, "group": 32, "text": "random characters"}])


def outliers() -> list[dict[str, Any]]:
    arms = "int8", "int8, smoothed", "4 bits", "4 bits, gptq", "4 bits, awq"
    return each_draw([{"part": "outliers", "arm": arm, "planted": yes} for arm in arms for yes in (True, False)])


def pruning() -> list[dict[str, Any]]:
    patterns = "50 %", "2:4"
    alone = [{"part": "pruning", "arm": "magnitude", "pattern": pattern} for pattern in patterns]
    alone += [{"part": "pruning", "arm": "magnitude within outputs", "pattern": "50 %"}]
    arms = "random", "wanda", "sparsegpt", "wanda, calibrated on random characters", "wanda, inputs as pruned so far"
    return alone + each_draw(
        [{"part": "pruning", "arm": arm, "pattern": pattern} for arm in arms for pattern in patterns]
    )


def caches() -> list[dict[str, Any]]:
    return [
        {"part": "cache", "arm": way, "bits": bits, "shifted": yes}
        for yes in (False, True)
        for way in WAYS
        for bits in (4, 3, 2)
    ]


def ranks() -> list[dict[str, Any]]:
    kinds = [("weights", 32), ("2 bits and weights", 2), ("2 bits and weights", 8)]
    alone = [{"part": "rank", "arm": arm, "rank": rank} for arm, rank in kinds]
    return alone + each_draw(
        [{"part": "rank", "arm": arm.replace("weights", "outputs"), "rank": rank} for arm, rank in kinds]
    )


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
