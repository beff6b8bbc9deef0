"""The comparisons of notebook 06 on the embedded digits: the teacher's channels removed, five paired seeds an arm.

Every pruned network comes from the teacher of its seed. What is trained after pruning has 15 epochs; a small network
from scratch has the teacher's 30 and these 15, so that no arm has seen fewer images than another.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdcourse.data import load_mnist, random_affine
from kdcourse.metrics import agreement, count_macs, count_parameters
from kdcourse.models import conv_net
from kdcourse.pruning import best_channels, channel_scores, prune_filters
from kdcourse.training import evaluate, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
CHANNELS = (16, 32, 48)
TEACHER: dict[str, Any] = {"epochs": 30, "learning_rate": 4e-3, "progress": False}
AFTER: dict[str, Any] = {"epochs": 15, "learning_rate": 2e-3, "progress": False}
SCRATCH: dict[str, Any] = {"epochs": 45, "learning_rate": 4e-3, "progress": False}
SOFT = {"temperature": 4.0, "alpha": 0.9}
RECIPE: dict[str, Any] = {
    "network": f"conv_net({CHANNELS})",
    "teacher": TEACHER,
    "after pruning": AFTER,
    "from scratch": SCRATCH,
    "distillation": SOFT | {"teacher": "the network of the same seed before pruning"},
    "augmentation": "random_affine(), in every arm",
}
EXAMPLE = torch.zeros(1, 1, 28, 28)

digits = cache(load_mnist)


@cache
def full_state(seed: int) -> dict[str, Tensor]:
    network = conv_net(CHANNELS, seed=seed)
    store.fit(network, digits().train, augment=random_affine(), seed=seed, **TEACHER)
    return network.state_dict()


def full(seed: int) -> nn.Module:
    network = conv_net(CHANNELS, seed=seed)
    network.load_state_dict(full_state(seed))
    return network.eval()


def train(network: nn.Module, seed: int, how: str, options: dict[str, Any], *, order: int = 0) -> nn.Module:
    """Train in place, with the teacher of this seed where ``how`` is "teacher"; ``order`` changes the batches."""
    options = options | {"augment": random_affine(), "seed": seed + order}
    if how == "teacher":
        store.distill(network, full(seed), digits().train, **SOFT, **options)
    elif how == "labels":
        store.fit(network, digits().train, **options)
    return network


def slim(seed: int, *, kind: Any, share: float = 0.5) -> nn.Module:
    """The seed's network with the best share of every layer's channels."""
    network, train_split = full(seed), digits().train
    rows = torch.arange(0, 3500, 7)

    def batch_loss() -> Tensor:
        return F.cross_entropy(network(train_split.images[rows]), train_split.labels[rows])

    scores = channel_scores(network, kind, example=EXAMPLE, batch_loss=batch_loss, seed=seed)
    return prune_filters(network, best_channels(scores, share), example=EXAMPLE)


def pruned(seed: int, *, kind: str, share: float = 0.5, after: str = "nothing") -> nn.Module:
    return train(slim(seed, kind=kind, share=share), seed, after, AFTER, order=100)


def scratch(seed: int, *, share: float = 0.5, how: str = "labels") -> nn.Module:
    widths = [int(share * channels + 0.5) for channels in CHANNELS]
    return train(conv_net(widths, seed=seed + 200), seed, how, SCRATCH)


def trained_on(seed: int) -> nn.Module:
    return train(full(seed), seed, "labels", AFTER, order=100)


ARMS: dict[str, Callable[[int], nn.Module]] = {"full": full, "full, trained on": trained_on}
for k in ("l1", "l2", "batch_norm", "taylor", "random"):
    ARMS[f"{k}, nothing after"] = partial(pruned, kind=k)
    ARMS[f"{k}, labels"] = partial(pruned, kind=k, after="labels")
for k in ("l1", "batch_norm", "taylor", "random"):
    ARMS[f"{k}, teacher"] = partial(pruned, kind=k, after="teacher")
ARMS["scratch, labels"] = scratch
ARMS["scratch, teacher"] = partial(scratch, how="teacher")
ARMS["l1, a quarter, nothing after"] = partial(pruned, kind="l1", share=0.25)
ARMS["l1, a quarter, labels"] = partial(pruned, kind="l1", share=0.25, after="labels")
ARMS["l1, a quarter, teacher"] = partial(pruned, kind="l1", share=0.25, after="teacher")
ARMS["scratch, a quarter, teacher"] = partial(scratch, share=0.25, how="teacher")
ARMS["scratch, a quarter, labels"] = partial(scratch, share=0.25)


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Make one network and report it."""
    network, test = ARMS[arm](seed), digits().test
    found = evaluate(network, test)
    return {
        "validation": evaluate(network, digits().validation).accuracy,
        "test": found.accuracy,
        "test_ece": found.calibration_error,
        "agreement with full": agreement(predict(network, test.images), predict(full(seed), test.images)),
        "parameters": count_parameters(network),
        "macs": count_macs(network, EXAMPLE),
        "channels": network.architecture["channels"],  # type: ignore[index]
    }


def main() -> None:
    keys = [{"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
