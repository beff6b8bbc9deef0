"""The comparisons of notebook 07 on the embedded digits: the teacher's network in few bits, five paired seeds an arm.

Every network is folded and calibrated on 500 training images; its activations have 8 bits. "After training" is measured
as it comes out; the others are trained through the rounding for a few epochs more, and so is the float network.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse.data import load_mnist, random_affine
from kdcourse.metrics import agreement
from kdcourse.models import conv_net, mlp
from kdcourse.quantization import calibrate, fake_quantize_model, fold_batchnorm, mse_range
from kdcourse.training import evaluate, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
TEACHER: dict[str, Any] = {"epochs": 30, "learning_rate": 4e-3, "progress": False}
STUDENT: dict[str, Any] = {"epochs": 75, "progress": False}
AFTER: dict[str, Any] = {"epochs": 6, "learning_rate": 1e-3, "progress": False}
SOFT = {"temperature": 4.0, "alpha": 0.9}
RECIPE: dict[str, Any] = {
    "teacher": {"network": "conv_net()", "augmentation": "random_affine()"} | TEACHER,
    "student": {"network": "mlp((128,))", "from": "the labels"} | STUDENT,
    "trained through the rounding": {"augmentation": "random_affine()"} | AFTER,
    "distillation": SOFT | {"teacher": "the float network of the same seed"},
    "activations": "8 bits, affine, range of least squared error over 500 training images",
}
BITS = (8, 6, 4, 3, 2)

digits = cache(load_mnist)


@cache
def float_state(seed: int) -> dict[str, Tensor]:
    network = conv_net(seed=seed)
    store.fit(network, digits().train, augment=random_affine(), seed=seed, **TEACHER)
    return network.state_dict()


def float_teacher(seed: int) -> nn.Module:
    network = conv_net(seed=seed)
    network.load_state_dict(float_state(seed))
    return network.eval()


@cache
def float_student(seed: int) -> nn.Module:
    network = mlp((128,), seed=seed)
    store.fit(network, digits().train, seed=seed, **STUDENT)
    return network


@cache
def ranges(kind: str, seed: int) -> dict[str, Any]:
    folded = fold_batchnorm(float_teacher(seed) if kind == "teacher" else float_student(seed))
    return calibrate(folded, list(digits().train.images[::7].split(100)), method=mse_range)


def quantized(kind: str, bits: int, seed: int, *, learned_step: bool = False) -> nn.Module:
    folded = fold_batchnorm(float_teacher(seed) if kind == "teacher" else float_student(seed))
    options: dict[str, Any] = {"activation_bits": 8, "ranges": ranges(kind, seed), "learned_step": learned_step}
    return fake_quantize_model(folded, weight_bits=bits, **options)


def train(network: nn.Module, seed: int, how: str) -> nn.Module:
    options = AFTER | {"augment": random_affine(), "seed": seed + 100}
    if how == "teacher":
        store.distill(network, float_teacher(seed), digits().train, **SOFT, **options)
    else:
        store.fit(network, digits().train, **options)
    return network


def trained_in(bits: int, seed: int, *, how: str, learned_step: bool = False) -> nn.Module:
    return train(quantized("teacher", bits, seed, learned_step=learned_step), seed, how)


ARMS: dict[str, Callable[[int], nn.Module]] = {
    "float": float_teacher,
    "float, trained on, labels": lambda seed: train(float_teacher(seed), seed, "labels"),
    "student, float": float_student,
}
for b in BITS:
    ARMS[f"{b} bits, after training"] = partial(quantized, "teacher", b)
    ARMS[f"student, {b} bits, after training"] = partial(quantized, "student", b)
for b in (4, 3, 2):
    ARMS[f"{b} bits, labels"] = partial(trained_in, b, how="labels")
    ARMS[f"{b} bits, teacher"] = partial(trained_in, b, how="teacher")
    ARMS[f"{b} bits, learned step, teacher"] = partial(trained_in, b, how="teacher", learned_step=True)


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Make one network and report it."""
    network, test = ARMS[arm](seed).eval(), digits().test
    origin = float_student(seed) if arm.startswith("student") else float_teacher(seed)
    found = evaluate(network, test)
    return {
        "validation": evaluate(network, digits().validation).accuracy,
        "test": found.accuracy,
        "test_ece": found.calibration_error,
        "agreement with float": agreement(predict(network, test.images), predict(origin, test.images)),
    }


def main() -> None:
    torch.set_num_threads(1)
    keys = [{"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
