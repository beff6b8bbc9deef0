"""What a compressed network answers differently, for notebook 20: populations of twenty networks an arm.

Number k of every arm starts from dense network k or is compressed from it. Arms with a knob have two tries on the first
five seeds; the try with the better mean validation accuracy is repeated for the other fifteen. A record keeps each
wrong test answer as "image:class", from which all flips follow; attributions are compared for the first five seeds.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.attribution import integrated_gradients, rank_correlation
from kdcourse.data import load_mnist
from kdcourse.metrics import accuracy, expected_calibration_error, fit_temperature
from kdcourse.models import mlp
from kdcourse.pruning import apply_masks, global_magnitude_masks
from kdcourse.quantization import calibrate, fake_quantize_model, min_max_range, mse_range
from kdcourse.seeds import seeded
from kdcourse.training import distill, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
TRIED, ALL = range(5), range(20)
DENSE: dict[str, Any] = {"epochs": 30, "batch_size": 128, "learning_rate": 2e-3, "progress": False}
AFTER: dict[str, Any] = {"epochs": 15, "progress": False}
SMALL: dict[str, Any] = {"epochs": 45, "progress": False}
SPARSITIES, STUDENT, WIDTHS = (0.8, 0.95), 12, (8, 12, 16, 24)
KNOBS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "trained on": ("learning_rate", (1e-3, 4e-3)),
    **{f"pruned, {fraction}": ("learning_rate", (1e-3, 4e-3)) for fraction in SPARSITIES},
    "8 bits": ("range", ("min_max", "mse")),
    "3 bits": ("range", ("min_max", "mse")),
    "distilled": ("temperature", (2.0, 8.0)),
    "distilled, shuffled": ("temperature", (2.0, 8.0)),
    **{f"small, {width}": ("learning_rate", (2e-3, 8e-3)) for width in WIDTHS},
}
RECIPE: dict[str, Any] = {
    "dense": {"network": "mlp((64,))"} | DENSE,
    "pruned": {"sparsity": SPARSITIES, "one-shot": "global magnitude, then trained on"} | AFTER,
    "bits": "weights per channel, activations 8 bits, calibrated on 500 training images",
    "distilled": {"network": f"mlp(({STUDENT},))", "alpha": 1.0} | SMALL,
    "small": {"networks": WIDTHS} | SMALL,
    "tries": KNOBS,
    "attributions": "integrated gradients from black, 16 midpoints, of the dense network's class; 100 test images",
}
digits = cache(load_mnist)


@cache
def dense(seed: int) -> nn.Module:
    network = mlp((64,), seed=seed)
    fit(network, digits().train, seed=seed, **DENSE)
    return network


def copy_of(seed: int) -> nn.Module:
    network = mlp((64,), seed=seed)
    network.load_state_dict(dense(seed).state_dict())
    return network


def rounded(seed: int, bits: int, method: str) -> nn.Module:
    ways = {"min_max": min_max_range, "mse": mse_range}
    ranges = calibrate(dense(seed), list(digits().train.images[::7].split(100)), method=ways[method])
    return fake_quantize_model(dense(seed), weight_bits=bits, activation_bits=8, ranges=ranges)


def distilled(seed: int, temperature: float, *, shuffled: bool) -> nn.Module:
    """A small network distilled from the dense one; ``shuffled`` gives each image another one's logits of its class."""
    logits, labels = predict(dense(seed), digits().train.images), digits().train.labels
    if shuffled:
        with seeded(seed):
            for digit in range(10):
                rows = (labels == digit).nonzero().flatten()
                logits[rows] = logits[rows[torch.randperm(len(rows))]]
    network = mlp((STUDENT,), seed=seed)
    distill(network, logits, digits().train, temperature=temperature, alpha=1.0, seed=seed, **SMALL)
    return network


def make(arm: str, seed: int, knob: Any = None) -> nn.Module:
    if arm in ("dense", "another seed", "untrained"):
        if arm == "untrained":
            return mlp((64,), seed=seed + 1000)
        return dense(seed if arm == "dense" else seed + 1000)
    if arm.endswith("bits"):
        return rounded(seed, int(arm[0]), knob)
    if arm.startswith("distilled"):
        return distilled(seed, knob, shuffled=arm.endswith("shuffled"))
    if arm.startswith("small"):
        network = mlp((int(arm.split()[-1]),), seed=seed)
        fit(network, digits().train, seed=seed, learning_rate=knob, **SMALL)
        return network
    network = copy_of(seed)
    if arm.startswith("pruned"):
        apply_masks(network, global_magnitude_masks(network, float(arm.split()[-1])))
    fit(network, digits().train, seed=seed + 100, learning_rate=knob, **AFTER)
    return network


def agreements(network: nn.Module, seed: int) -> dict[str, float]:
    """Mean rank correlation with the dense network's attributions: of the ink with signs, of all pixels without."""
    images = digits().test.images[:100]
    targets = predict(dense(seed), images).argmax(dim=1)
    ours, theirs = (
        integrated_gradients(each, images, targets, baseline=0.0, steps=16).values for each in (network, dense(seed))
    )
    ink = images > 0
    signed = [rank_correlation(a[on][None], b[on][None]) for a, b, on in zip(ours, theirs, ink, strict=True)]
    return {
        "ink, signed": torch.cat(signed).mean().item(),
        "all pixels, unsigned": rank_correlation(ours.abs(), theirs.abs()).mean().item(),
        "the image itself, unsigned": rank_correlation(images, theirs.abs()).mean().item(),
    }


def calibration(network: nn.Module) -> dict[str, float]:
    """Calibration error and cross-entropy on test, as it is and at the temperature that fits validation."""
    (held, labels), test = digits().validation, digits().test
    temperature = fit_temperature(predict(network, held), labels)
    found, logits = {"fitted temperature": temperature}, predict(network, test.images)
    for name, scaled in (("", logits), (" refitted", logits / temperature)):
        found |= {f"ece{name}": expected_calibration_error(scaled, test.labels)}
        found |= {f"cross-entropy{name}": F.cross_entropy(scaled, test.labels).item()}
    return found


def measure(arm: str, seed: int, **knob: Any) -> dict[str, Any]:
    """Make one network and report it."""
    network, test, validation = make(arm, seed, *knob.values()), digits().test, digits().validation
    predicted = predict(network, test.images).argmax(dim=1)
    wrong = (predicted != test.labels).nonzero().flatten().tolist()
    found: dict[str, Any] = {
        "validation": accuracy(predict(network, validation.images), validation.labels),
        "test": 1 - len(wrong) / len(test.labels),
        "wrong": " ".join(f"{image}:{predicted[image]}" for image in wrong) if arm != "untrained" else "",
        **calibration(network),
    }
    return found | ({"attributions": agreements(network, seed)} if seed in TRIED else {})


def chosen(arm: str) -> dict[str, Any]:
    if arm not in KNOBS:
        return {}
    name = KNOBS[arm][0]
    return {name: store.chosen(RESULTS, arm, (name,))[0]}


def main() -> None:
    torch.set_num_threads(1)
    knobs = [(arm, {name: value}) for arm, (name, values) in KNOBS.items() for value in values]
    tries = [{"arm": arm, "seed": seed, **knob} for seed in TRIED for arm, knob in knobs]
    fixed = [{"arm": arm, "seed": seed} for seed in TRIED for arm in ("dense", "another seed", "untrained")]
    store.resume_all(RESULTS, sorted([*fixed, *tries], key=lambda key: key["seed"]), measure, recipe=RECIPE)
    arms = ["dense", "another seed", *KNOBS]
    rest = [{"arm": arm, "seed": seed, **chosen(arm)} for seed in ALL[len(TRIED) :] for arm in arms]
    store.resume_all(RESULTS, rest, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
