"""The thin middle of notebook 14: 100 → rank → 10 in place of the last layer of an MLP, five paired seeds.

A seed gives the dense network, the thin ones and the batches. Without training the replacement is made from the
weights alone, or for the layer's outputs on the training images. Every trained arm has rank 5 and seven tries, of
the learning rate, of which the one that is best on validation is measured on test. What starts from the dense network
trains for as many epochs more as every other such arm; what starts from scratch has the dense network's epochs, too.
"""

import copy
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdcourse.data import load_mnist
from kdcourse.lowrank import factorize
from kdcourse.metrics import agreement, count_parameters
from kdcourse.models import mlp
from kdcourse.seeds import seeded
from kdcourse.training import distill, evaluate, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, RANKS, RANK = range(5), range(1, 11), 5
DENSE: dict[str, Any] = {"epochs": 10, "batch_size": 64, "learning_rate": 1e-2, "progress": False}
MORE, RATES = 5, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
SOFT: dict[str, Any] = {"temperature": 4.0, "alpha": 0.9}
STARTS = ("dense", "weights", "outputs", "random", "from scratch")
UNTRAINED = (*STARTS[1:4], "outputs, three digits")
RECIPE: dict[str, Any] = {
    "network": "mlp((100,)), all 3,500 training images",
    "dense": DENSE,
    "outputs": "on the 3,500 training images, or on those of the digits 0, 1 and 2",
    "random": "orthonormal directions, the layer's weights projected on them",
    "trained": {"rank": RANK, "epochs more": MORE, "learning rates": RATES, "what": "all layers"},
    "distilled": SOFT | {"teacher": "the dense network"},
}

digits = cache(load_mnist)


@cache
def dense(seed: int) -> nn.Sequential:
    network = mlp((100,), seed=seed)
    fit(network, digits().train, seed=seed, **DENSE)
    return network


def hidden(network: nn.Sequential, most: int = 9) -> torch.Tensor:
    """What the last layer is given for the training images of the digits up to ``most``."""
    train = digits().train
    with torch.no_grad():
        found: torch.Tensor = network[:-1](train.images[train.labels <= most])
    return found


def random_factors(layer: nn.Linear, rank: int, seed: int) -> nn.Sequential:
    """Random directions in place of the best ones; the second factor is then the best for them."""
    with seeded(seed):
        directions = torch.linalg.qr(torch.randn(layer.in_features, rank)).Q
    thin = factorize(layer, rank, allow_larger=True)
    with torch.no_grad():
        thin[0].weight.copy_(directions.T)
        thin[1].weight.copy_(layer.weight @ directions)
    return thin


def thin(start: str, rank: int, seed: int) -> nn.Sequential:
    """The dense network with a thin layer in place of its last; from scratch a new one of that form."""
    network = mlp((100,), seed=100 + seed) if start == "from scratch" else copy.deepcopy(dense(seed))
    layer = network.classes
    if start == "from scratch":
        with seeded(200 + seed):
            network.classes = nn.Sequential(nn.Linear(100, rank, bias=False), nn.Linear(rank, 10))
    elif start == "random":
        network.classes = random_factors(layer, rank, 300 + seed)
    elif start != "dense":
        inputs = None if start == "weights" else hidden(dense(seed), 2 if start.endswith("three digits") else 9)
        network.classes = factorize(layer, rank, inputs=inputs, allow_larger=True)
    return network


def report(network: nn.Module, seed: int) -> dict[str, Any]:
    """On test; ``error`` is the mean squared difference from the dense logits over their variance."""
    test = digits().test
    ours, theirs = predict(network, test.images), predict(dense(seed), test.images)
    found = evaluate(network, test)
    error = (ours - theirs).square().mean() / (theirs - theirs.mean(dim=0)).square().mean()
    return {
        "test": found.accuracy,
        "test_cross_entropy": found.cross_entropy,
        "agreement": agreement(ours, theirs),
        "error": round(error.item(), 6),
        "parameters": count_parameters(network),
    }


def replaced(arm: str, rank: int, seed: int) -> dict[str, Any]:
    """Nothing is trained."""
    return report(thin(arm, rank, seed), seed)


def trained(arm: str, loss: str, seed: int) -> dict[str, Any]:
    """Seven tries of an arm; the one that is best on validation is reported."""
    tries = []
    for rate in RATES:
        network = thin(arm, RANK, seed)
        epochs = MORE + (DENSE["epochs"] if arm == "from scratch" else 0)
        options = DENSE | {"epochs": epochs, "learning_rate": rate, "seed": 50 + seed}
        if loss == "labels":
            fit(network, digits().train, **options)
        else:
            distill(network, dense(seed), digits().train, **SOFT, **options)
        tries.append((rate, network))
    record, network = store.best_of(tries, digits().validation)
    return record | report(network, seed)


def measure(arm: str, seed: int, rank: int | None = None, loss: str = "") -> dict[str, Any]:
    return trained(arm, loss, seed) if rank is None else replaced(arm, rank, seed)


def wanted() -> list[dict[str, Any]]:
    untrained = [{"arm": arm, "rank": rank, "seed": seed} for seed in SEEDS for arm in UNTRAINED for rank in RANKS]
    losses = ("labels", "soft")
    return untrained + [{"arm": arm, "loss": loss, "seed": seed} for seed in SEEDS for arm in STARTS for loss in losses]


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
