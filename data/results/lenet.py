"""LeNet-300-100 on the full MNIST, pruned: the experiment of Han et al. 2015 (arXiv:1506.02626), three seeds.

They report 1.64 % errors dense and 1.59 % with 12 times fewer weights. Needs the full MNIST. A pruned network is
trained on the labels, or taught by the dense network it was made from.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdcourse.data import load_mnist
from kdcourse.models import mlp
from kdcourse.pruning import (
    apply_masks,
    global_magnitude_masks,
    layer_sparsities,
    polynomial_sparsity,
    prunable_weights,
    snapshot,
)
from kdcourse.training import predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(3)
HIDDEN = (300, 100)
EPOCHS = 30
KEPT = {"labels": (1, 0.0833, 0.05), "taught": (1, 0.0833, 0.05, 0.03, 0.02)}
SOFT = {"temperature": 4.0, "alpha": 0.9}
RECIPE: dict[str, Any] = {
    "network": f"mlp({HIDDEN})",
    "training": {"epochs": EPOCHS, "batch_size": 128, "learning_rate": 1e-3, "weight_decay": 0.01},
    "after": "the same again; while pruning gradually, along the cubic schedule, for the first 0.7 of it",
    "taught": SOFT | {"teacher": "the dense network of the same seed"},
}
OPTIONS: dict[str, Any] = {"epochs": EPOCHS, "learning_rate": 1e-3, "progress": False}

digits = cache(partial(load_mnist, subset=False))


@cache
def dense_state(seed: int) -> dict[str, Tensor]:
    network = mlp(HIDDEN, seed=seed)
    store.fit(network, digits().train, seed=seed, **OPTIONS)
    return snapshot(network)


def tightening(network: nn.Module, final: float, *, step: float) -> Callable[[float], None]:
    """What to call before every step: prunes along the cubic schedule, a ``step`` of sparsity at a time, until 0.7."""
    pruned = 0.0

    def tighten(done: float) -> None:
        nonlocal pruned
        wanted = polynomial_sparsity(done, final=final, end=0.7)
        if wanted > pruned + step or (done > 0.7 and wanted > pruned):
            apply_masks(network, global_magnitude_masks(network, wanted))
            pruned = wanted

    return tighten


def make(arm: str, seed: int) -> nn.Module:
    """ "dense", or another 30 epochs from there: "labels" or "taught", with so many of the weights kept at the end."""
    network = dense(seed)
    if arm == "dense":
        return network
    how, kept = arm.split(", kept ")
    options = OPTIONS | {"seed": seed + 100, "before_step": tightening(network, 1 - float(kept), step=0.01)}
    if how == "taught":
        store.distill(network, dense(seed), digits().train, **SOFT, **options)
    else:
        store.fit(network, digits().train, **options)
    return network


def dense(seed: int) -> nn.Module:
    network = mlp(HIDDEN, seed=seed)
    network.load_state_dict(dense_state(seed))
    return network


def measure(arm: str, seed: int) -> dict[str, Any]:
    network = make(arm, seed)
    found: dict[str, Any] = {}
    for name in ("validation", "test"):
        split = getattr(digits(), name)
        wrong = predict(network, split.images).argmax(dim=1) != split.labels
        found[f"{name} errors"] = int(wrong.sum())
    weights = {name: int(weight.count_nonzero()) for name, weight in prunable_weights(network).items()}
    shares = {name: round(share, 5) for name, share in layer_sparsities(network).items()}
    return found | {"weights": sum(weights.values()), "by layer": shares}


def main() -> None:
    arms = ["dense", *(f"{how}, kept {kept}" for how, every in KEPT.items() for kept in every)]
    keys = [{"arm": arm, "seed": seed} for seed in SEEDS for arm in arms]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
