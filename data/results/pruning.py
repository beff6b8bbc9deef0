"""The comparisons of notebook 05 on the embedded digits: MLP-128, weights pruned, five paired seeds an arm.

Every network begins as the same dense one of its seed. "One-shot" prunes it at once, "gradual" along the cubic
schedule, and both then have the same epochs as "dense, trained on". Tickets begin anew and get the epochs of "dense".
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse.data import data_dir, load_mnist
from kdcourse.metrics import accuracy, agreement
from kdcourse.models import load_model, mlp
from kdcourse.pruning import (
    apply_masks,
    global_magnitude_masks,
    layer_magnitude_masks,
    layer_sparsities,
    nm_mask,
    polynomial_sparsity,
    prunable_weights,
    random_mask,
    rewind,
    snapshot,
    sparsity,
)
from kdcourse.training import predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
EPOCHS = 75
ROUNDS = 5
RECIPE: dict[str, Any] = {
    "network": "mlp((128,))",
    "training": {"epochs": EPOCHS, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 0.01},
    "after pruning": {"epochs": EPOCHS, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 0.01},
    "gradual": {"schedule": "cubic", "begin": 0.0, "end": 0.7},
    "with the teacher": {"temperature": 10.0, "alpha": 1.0, "teacher": "data/teacher.safetensors"},
    "iterative tickets": {"rounds": ROUNDS},
    "hardest images": "the 100 test images to whose label the shipped teacher gives the least probability",
}
QUIET: dict[str, Any] = {"epochs": EPOCHS, "progress": False}
Arm = Callable[[int], nn.Module]

digits = cache(load_mnist)
teacher = cache(lambda: load_model(data_dir() / "teacher.safetensors"))
teacher_logits = cache(lambda: predict(teacher(), digits().train.images))


@cache
def dense_state(seed: int) -> dict[str, Tensor]:
    network = mlp((128,), seed=seed)
    store.fit(network, digits().train, seed=seed, **QUIET)
    return snapshot(network)


def dense(seed: int) -> nn.Module:
    network = mlp((128,), seed=seed)
    network.load_state_dict(dense_state(seed))
    return network


def go_on(network: nn.Module, seed: int, *, taught: bool = False, **options: Any) -> nn.Module:
    """Train on, with another batch order than the first time."""
    options |= {"seed": seed + 100, **QUIET}
    if taught:
        store.distill(network, teacher_logits(), digits().train, temperature=10.0, alpha=1.0, **options)
    else:
        store.fit(network, digits().train, **options)
    return network


def trained_on(seed: int, *, taught: bool = False) -> nn.Module:
    return go_on(dense(seed), seed, taught=taught)


def per_layer(network: nn.Module, share: float) -> dict[str, Tensor]:
    return layer_magnitude_masks(network, share)


def at_random(network: nn.Module, share: float, *, seed: int = 0) -> dict[str, Tensor]:
    return {name: random_mask(weight, share, seed=seed) for name, weight in prunable_weights(network).items()}


def two_of_four(network: nn.Module, share: float) -> dict[str, Tensor]:
    return {name: nm_mask(weight) for name, weight in prunable_weights(network).items()}


def one_shot(
    seed: int, *, share: float, masks: Callable[..., dict[str, Tensor]] = global_magnitude_masks, after: str = "labels"
) -> nn.Module:
    network = dense(seed)
    apply_masks(network, masks(network, share))
    return network if after == "nothing" else go_on(network, seed, taught=after == "teacher")


def gradual(seed: int, *, share: float, taught: bool = False) -> nn.Module:
    network = dense(seed)

    def tighten(done: float) -> None:
        wanted = polynomial_sparsity(done, final=share, end=0.7)
        # not at every step, because sorting the weights costs more than a step; at the end exactly
        if wanted > sparsity(network) + (0.002 if done < 0.7 else 1e-4):
            apply_masks(network, global_magnitude_masks(network, wanted))

    go_on(network, seed, taught=taught, before_step=tighten)
    return network


def ticket(seed: int, *, share: float, control: str = "", rounds: int = 1) -> nn.Module:
    """Train, prune, go back to the beginning, train again; the controls change the weights or the mask."""
    network = mlp((128,), seed=seed)
    beginning = snapshot(network)
    for number in range(1, rounds + 1):
        trained = dense(seed) if number == 1 else network
        found = global_magnitude_masks(trained, 1 - (1 - share) ** (number / rounds))
        if control == "random mask":
            kept = layer_sparsities(found)
            found = {name: random_mask(mask.float(), kept[name], seed=seed) for name, mask in found.items()}
        apply_masks(network, found)
        rewind(network, snapshot(mlp((128,), seed=seed + 50)) if control == "other weights" else beginning)
        store.fit(network, digits().train, seed=seed, **QUIET)
    return network


ARMS: dict[str, Arm] = {
    "dense": dense,
    "dense, trained on": trained_on,
    "dense, trained on, teacher": partial(trained_on, taught=True),
    "2:4": partial(one_shot, share=0.5, masks=two_of_four),
}
for s in (0.5, 0.8, 0.9, 0.95, 0.98, 0.99):
    ARMS[f"one-shot {s}, nothing after"] = partial(one_shot, share=s, after="nothing")
    ARMS[f"one-shot {s}"] = partial(one_shot, share=s)
    ARMS[f"gradual {s}"] = partial(gradual, share=s)
for s in (0.9, 0.95, 0.98, 0.99):
    ARMS[f"one-shot {s}, teacher"] = partial(one_shot, share=s, after="teacher")
    ARMS[f"gradual {s}, teacher"] = partial(gradual, share=s, taught=True)
    ARMS[f"one-shot {s}, per layer"] = partial(one_shot, share=s, masks=per_layer)
    ARMS[f"one-shot {s}, at random"] = partial(one_shot, share=s, masks=at_random)
for s in (0.5, 0.8, 0.9, 0.95, 0.98):
    ARMS[f"ticket {s}"] = partial(ticket, share=s)
    ARMS[f"ticket {s}, other weights"] = partial(ticket, share=s, control="other weights")
    ARMS[f"ticket {s}, random mask"] = partial(ticket, share=s, control="random mask")
for s in (0.9, 0.98):
    ARMS[f"ticket {s}, {ROUNDS} rounds"] = partial(ticket, share=s, rounds=ROUNDS)


@cache
def hardest() -> Tensor:
    test = digits().test
    of_label = predict(teacher(), test.images).softmax(dim=1)[torch.arange(len(test.labels)), test.labels]
    return of_label.argsort()[:100]


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Make one network and report it."""
    network = ARMS[arm](seed)
    test, validation = digits().test, digits().validation
    logits, of_dense = predict(network, test.images), predict(dense(seed), test.images)
    right = logits.argmax(dim=1) == test.labels
    return {
        "validation": accuracy(predict(network, validation.images), validation.labels),
        "test": right.double().mean().item(),
        "hardest": right[hardest()].double().mean().item(),
        "by class": [round(right[test.labels == digit].double().mean().item(), 4) for digit in range(10)],
        "agreement with dense": agreement(logits, of_dense),
        "sparsity": round(sparsity(network), 5),
        "by layer": {name: round(share, 5) for name, share in layer_sparsities(network).items()},
    }


def main() -> None:
    keys = [{"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
