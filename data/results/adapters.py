"""The adapters of notebook 14: MNIST's teacher fitted to scikit-learn's digits, five paired seeds.

Every trained arm takes the same number of steps and has seven tries, the same seven learning rates, of which the one
that is best on 100 validation images of the new domain is measured on its test images. A seed gives the labelled
images, the batches and what is random at the start.
"""

import copy
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdcourse.averaging import reset_batchnorm
from kdcourse.data import Mnist, Split, data_dir, load_mnist
from kdcourse.domains import load_scikit_digits
from kdcourse.lowrank import add_lora, merge_lora
from kdcourse.models import conv_net, load_model
from kdcourse.seeds import seeded
from kdcourse.training import distill, evaluate, fit

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, RATES, RANKS, ALPHA = range(5), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0), (1, 2, 4, 6), 8.0
LAYERS, FIRST = ("conv2", "conv3", "classes"), ("conv1", "conv2")
STEPS, BATCH = 160, 25
SOFT: dict[str, Any] = {"temperature": 4.0, "alpha": 1.0}
RECIPE: dict[str, Any] = {
    "network": "data/teacher.safetensors, conv_net((16, 32, 48)), trained on MNIST",
    "domain": "scikit-learn's digits: 10 labelled images per class, or all 1,000; 100 for validation, 697 for test",
    "training": {"steps": STEPS, "batch size": BATCH, "learning rates": RATES, "optimizer": "AdamW"},
    "low rank": {"layers": LAYERS, "or the first two": FIRST, "ranks": RANKS, "alpha": ALPHA},
    "distilled": SOFT | {"teacher": "conv_net() trained on the 1,000 labels, 20 epochs, learning rate 3e-3"},
    "batch norm": "running statistics move in every arm that trains",
}
FEW = [
    *(f"rank {rank}" for rank in RANKS),
    "rank 1, first two layers",
    "biases and norms",
    "last layer",
    "everything",
    "from scratch",
    "rank 6, untrained network",
]
ALL = ["rank 6, all labels", "rank 6, distilled", "everything, all labels", "everything, distilled"]
NOTHING = ["as it is", "batch norm re-estimated"]

shipped = cache(lambda: load_model(data_dir() / "teacher.safetensors"))
mnist: Callable[[], Mnist] = cache(load_mnist)
digits: Callable[[], Mnist] = cache(load_scikit_digits)


@cache
def few(seed: int) -> Split:
    """10 labelled images per class, chosen at random."""
    train = digits().train
    with seeded(1000 + seed):
        order = torch.randperm(len(train.labels))
    return train.take(torch.cat([order[train.labels[order] == digit][:10] for digit in range(10)]))


@cache
def expert(seed: int) -> nn.Module:
    """A network that knows the new domain."""
    network = conv_net(seed=500 + seed)
    fit(network, digits().train, epochs=20, batch_size=BATCH, learning_rate=3e-3, seed=seed, progress=False)
    return network.eval()


def only(network: nn.Module, names: Iterable[str]) -> None:
    """Freeze all parameters but those called ``names``."""
    kept = set(names)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in kept)


def prepared(arm: str, seed: int) -> nn.Module:
    """The network of an arm, with what it is to train taking a gradient."""
    if arm in ("from scratch", "rank 6, untrained network"):
        network: nn.Module = conv_net(seed=700 + seed)
    else:
        network = copy.deepcopy(shipped())
    names = [name for name, _ in network.named_parameters()]
    if arm.startswith("rank"):
        layers = FIRST if arm.endswith("first two layers") else LAYERS
        add_lora(network, layers, rank=int(arm.split(",")[0].removeprefix("rank ")), alpha=ALPHA, seed=seed)
    elif arm == "biases and norms":
        only(network, [name for name in names if name.startswith("norm") or name.endswith("bias")])
    elif arm == "last layer":
        only(network, [name for name in names if name.startswith("classes")])
    return network


def trained(arm: str, seed: int, rate: float) -> nn.Module:
    network = prepared(arm, seed)
    data = few(seed) if arm in FEW else digits().train
    epochs = STEPS * BATCH // len(data.labels)
    options: dict[str, Any] = {"epochs": epochs, "batch_size": BATCH, "learning_rate": rate, "seed": seed}
    if arm.endswith("distilled"):
        distill(network, expert(seed), data, progress=False, **SOFT, **options)
    else:
        fit(network, data, progress=False, **options)
    return network


def captured(network: nn.Module) -> dict[str, list[float]]:
    """What fraction of each layer's update, in squares, its first 1 … 8 directions hold."""
    found = {}
    for layer in LAYERS:
        update = network.get_submodule(layer).weight - shipped().get_submodule(layer).weight
        squares = torch.linalg.svdvals(update.detach().flatten(1)).square()
        found[layer] = [round((squares[:rank].sum() / squares.sum()).item(), 4) for rank in range(1, 9)]
    return found


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Seven tries; the one that is best on validation is reported, on the new domain and on MNIST."""
    if arm in NOTHING:
        network = copy.deepcopy(shipped())
        network = network if arm == NOTHING[0] else reset_batchnorm(network, [few(seed).images])
        return {"trained": 0} | report(network)
    record, network = store.best_of(((rate, trained(arm, seed, rate)) for rate in RATES), digits().validation)
    record["trained"] = sum(value.numel() for value in network.parameters() if value.requires_grad)
    if arm.startswith("rank"):
        merge_lora(network)
    if arm == "everything":
        record["captured"] = captured(network)
    return record | report(network)


def report(network: nn.Module) -> dict[str, Any]:
    result = evaluate(network, digits().test)
    return {
        "test": result.accuracy,
        "test_cross_entropy": result.cross_entropy,
        "mnist": evaluate(network, mnist().test).accuracy,
    }


def wanted() -> list[dict[str, Any]]:
    return [{"arm": arm, "seed": seed} for seed in SEEDS for arm in (*NOTHING, *FEW, *ALL)]


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
