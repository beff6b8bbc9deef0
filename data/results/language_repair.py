"""What training gives back to the stored language model in two bits, notebook 18: five paired seeds an arm.

All arms train for the same number of steps on the same windows of training speeches, a seed giving their order. The
weights are rounded to 2 bits in groups of 32 in every forward pass, the gradient passing straight through; or they
stay as GPTQ left them, and an adapter or the biases and norms learn. Each arm has three learning rates, tried with
a seed of their own and chosen on validation speeches; `language_repair_rates` goes on where the best was at an edge.
"""

import copy
import math
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kdcourse.language import Decoder
from kdcourse.losses import kd_loss
from kdcourse.lowrank import add_lora, lora_parameters, merge_lora
from kdcourse.quantization import choose_qparams, fake_quantize, gptq
from kdcourse.seeds import seeded

sys.path.insert(0, str(Path(__file__).resolve().parent))
import speeches  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, TRIAL = range(5), 5
BITS, GROUP = 2, 32
STEPS, WINDOWS, LENGTH = 60, 8, 128
RATES = (3e-4, 1e-3, 4e-3)
ARMS = {  # what learns, from what, on which text
    "all weights, distilled": ("weights", "teacher", "speeches"),
    "all weights, labels": ("weights", "labels", "speeches"),
    "all weights, distilled on random characters": ("weights", "teacher", "random characters"),
    "float weights, labels": ("float", "labels", "speeches"),
    "adapter of rank 8, distilled": (8, "teacher", "speeches"),
    "adapter of rank 8, labels": (8, "labels", "speeches"),
    "adapter of rank 1, distilled": (1, "teacher", "speeches"),
    "biases and norms, distilled": ("biases", "teacher", "speeches"),
}
RECIPE: dict[str, Any] = {
    "network": {"the stored language model": speeches.digest()},
    "codes": {"bits": BITS, "group size": GROUP, "affine": True},
    "training": {"steps": STEPS, "windows": WINDOWS, "length": LENGTH, "optimizer": "Adam, cosine to 0, clipped at 1"},
    "learning rates": RATES,
    "adapters": {"on": "the six matrices of every block, as GPTQ left them", "alpha": "twice the rank"},
    "distilled": "KL from the float model at temperature 1",
    "judged": {"windows": speeches.JUDGED, "counted": "all but the first quarter of a window"},
}


class Rounded(nn.Module):
    """A weight as its codes stand for it, with scales that follow it."""

    def forward(self, weight: Tensor) -> Tensor:
        return fake_quantize(weight, choose_qparams(weight, bits=BITS, axis=0, group_size=GROUP))


def rounded_model() -> Decoder:
    """Rounded in every forward pass."""
    model = copy.deepcopy(speeches.teacher()[0])
    for name in speeches.names(model):
        parametrize.register_parametrization(model.get_submodule(name), "weight", Rounded())
    return model


@cache
def repaired_by_gptq() -> Decoder:
    """The start of adapters, biases and norms: GPTQ with the first draw of `language_compression`."""
    model = speeches.teacher()[0]
    inputs = speeches.hessians(model, speeches.drawn("speeches", 0))
    return speeches.changed(model, lambda name, weight: gptq(weight, inputs[name], bits=BITS, group_size=GROUP))


def start(what: str | int, seed: int) -> tuple[Decoder, list[nn.Parameter]]:
    """The network of an arm before training, and what of it learns."""
    if what == "weights":
        model = rounded_model()
        return model, [model.get_submodule(name).parametrizations.weight.original for name in speeches.names(model)]
    if what == "float":
        model = copy.deepcopy(speeches.teacher()[0])
        return model, [model.get_submodule(name).weight for name in speeches.names(model)]
    model = copy.deepcopy(repaired_by_gptq())
    if what == "biases":
        vectors = [value for name, value in model.named_parameters() if value.ndim == 1]
        return model, vectors
    assert isinstance(what, int)
    add_lora(model, speeches.names(model), rank=what, alpha=2.0 * what, seed=seed)
    return model, lora_parameters(model)


def batches(text: str, seed: int) -> list[Tensor]:
    """As many windows of length + 1 as there are steps."""
    stream = speeches.tokens("train")
    with seeded(180 + seed):
        if text == "random characters":
            return [torch.randint(len(speeches.teacher()[1]), (WINDOWS, LENGTH + 1)) for _ in range(STEPS)]
        starts = torch.randint(len(stream) - LENGTH - 1, (STEPS, WINDOWS)).tolist()
    return [speeches.cut(stream, each, LENGTH + 1) for each in starts]


def train(arm: str, seed: int, learning_rate: float) -> Decoder:
    what, source, text = ARMS[arm]
    model, learned = start(what, seed)
    optimizer = torch.optim.Adam(learned, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / STEPS)) / 2)
    for windows in batches(text, seed):
        logits = model(windows[:, :-1])
        if source == "labels":
            loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        else:
            with torch.no_grad():
                soft = speeches.teacher()[0](windows[:, :-1])
            loss = kd_loss(logits, soft, temperature=1.0)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
    return model


def merged(model: Decoder) -> dict[str, float]:
    """The adapter added to the weights, in floats and rounded again to the same grids; how much of it is left."""
    base, whole = repaired_by_gptq(), copy.deepcopy(model)
    merge_lora(whole)
    below = total = 0

    def again(name: str, weight: Tensor) -> Tensor:
        nonlocal below, total
        before = base.get_submodule(name).weight.detach()
        params = choose_qparams(before, bits=BITS, axis=0, group_size=GROUP)
        small = (weight - before).abs() < params.scale.repeat_interleave(GROUP, dim=1) / 2
        below, total = below + int(small.sum()), total + small.numel()
        return fake_quantize(weight, params)

    rounded = speeches.changed(whole, again)
    new = speeches.changed(
        whole, lambda name, w: fake_quantize(w, choose_qparams(w, bits=BITS, axis=0, group_size=GROUP))
    )
    return {
        "merged": speeches.judge(whole)["bits per character"],
        "merged and rounded": speeches.judge(rounded)["bits per character"],
        "merged, rounded to new scales": speeches.judge(new)["bits per character"],
        "below half a step": below / total,
    }


def measure(arm: str, seed: int, learning_rate: float | None = None) -> dict[str, Any]:
    """A trial has a learning rate and is judged on validation; the five seeds take the best one, judged on test."""
    if learning_rate is not None:
        return {"validation": speeches.judge(train(arm, seed, learning_rate), "validation")["bits per character"]}
    return tested(arm, seed, min(RATES, key=lambda each: tried(arm, each)))


def tested(arm: str, seed: int, rate: float) -> dict[str, Any]:
    model = train(arm, seed, rate)
    found: dict[str, Any] = {"chosen": rate} | speeches.judge(model)
    found["learned"] = sum(value.numel() for value in start(ARMS[arm][0], seed)[1])
    return found | (merged(model) if arm.startswith("adapter") else {})


def tried(arm: str, rate: float) -> float:
    key = {"arm": arm, "seed": TRIAL, "learning_rate": rate}
    return float(store.resume(RESULTS, key, partial(measure, **key), recipe=RECIPE)["validation"])  # type: ignore[arg-type]


def measure_start(start_of: str) -> dict[str, Any]:
    return speeches.judge(repaired_by_gptq() if start_of == "gptq" else rounded_model())


def wanted() -> list[dict[str, Any]]:
    trials = [{"seed": TRIAL, "learning_rate": rate} for rate in RATES]
    return [{"arm": arm} | key for arm in ARMS for key in [*trials, *({"seed": seed} for seed in SEEDS)]]


def main() -> None:
    torch.set_num_threads(1)
    for name in ("rounding", "gptq"):
        store.resume(RESULTS, {"start_of": name}, partial(measure_start, name), recipe=RECIPE)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
