"""The chain of notebook 09 on the embedded digits, five paired seeds: each stage, four orders, and what else shrank.

A wide teacher is distilled into a student, whose channels are halved, whose loss is repaired with the teacher, whose
numbers become whole ones, and which ends as a file that onnxruntime runs. Every small network has the same shape and
has seen the same number of images. Accuracies of files are measured by running the files. The last records time the
files and networks of seed 0 against each other: leave the machine alone meanwhile.
"""

import copy
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse.data import Split, data_dir, load_mnist, random_affine
from kdcourse.export import file_bytes, latency, quantize_static, session, to_onnx
from kdcourse.metrics import accuracy, agreement, count_macs, count_parameters, expected_calibration_error
from kdcourse.models import conv_net, load_model, save_model
from kdcourse.pruning import best_channels, channel_scores, prune_filters
from kdcourse.quantization import bake, calibrate, fake_quantize_model, fold_batchnorm
from kdcourse.robustness import CORRUPTIONS, pgd_attack
from kdcourse.training import predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
WIDE, STUDENT, SMALL = (64, 128, 256), (32, 64, 96), (16, 32, 48)
BUDGET = {"student": 30, "recovery": 15, "through rounding": 6}
WHOLE = sum(BUDGET.values())
TEACHER: dict[str, Any] = {"epochs": 30, "learning_rate": 4e-3, "progress": False}
FIRST: dict[str, Any] = {"learning_rate": 4e-3, "progress": False}
AFTER: dict[str, Any] = {"learning_rate": 2e-3, "progress": False}
ROUNDING: dict[str, Any] = {"learning_rate": 1e-3, "progress": False}
SOFT = {"temperature": 4.0, "alpha": 0.9}
EPSILONS = (0.02, 0.05, 0.1)
RECIPE: dict[str, Any] = {
    "teacher": {"network": f"conv_net({WIDE})"} | TEACHER,
    "student": f"conv_net({STUDENT})",
    "small": f"conv_net({SMALL})",
    "epochs": BUDGET,
    "from scratch": FIRST,
    "after pruning": AFTER,
    "through rounding": ROUNDING,
    "distillation": SOFT | {"teacher": "the wide network of the same seed"},
    "augmentation": "random_affine(), in every arm",
    "channels kept": "largest L1 norm",
    "int8": "weights per channel, activations per tensor, extremes over 500 training images",
    "attack": {"epsilon": EPSILONS, "steps": 10},
    "hardest images": "the 100 test images to whose label data/teacher.safetensors gives the least probability",
}
EXAMPLE = torch.zeros(1, 1, 28, 28)

digits = cache(load_mnist)


def calibration_batches() -> list[Tensor]:
    return list(digits().train.images[::7].split(100))


# --- the pieces -------------------------------------------------------------------------------------------------------


def kept(make: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    """Make a seed's network once and hand out copies of it."""
    made = cache(make)

    return lambda seed: copy.deepcopy(made(seed))


@kept
def teacher(seed: int) -> nn.Module:
    network = conv_net(WIDE, seed=seed)
    store.fit(network, digits().train, augment=random_affine(), seed=seed, **TEACHER)
    return network


def stage_options(seed: int, epochs: int, options: dict[str, Any]) -> dict[str, Any]:
    """``options`` for so many epochs on distorted images; a stage of another length draws other batches."""
    return options | {"epochs": epochs, "augment": random_affine(), "seed": seed + 100 * epochs}


def taught(network: nn.Module, seed: int, epochs: int, options: dict[str, Any]) -> nn.Module:
    """Train in place with the teacher of this seed."""
    store.distill(network, teacher(seed), digits().train, **SOFT, **stage_options(seed, epochs, options))
    return network


def labelled(network: nn.Module, seed: int, epochs: int, options: dict[str, Any]) -> nn.Module:
    store.fit(network, digits().train, **stage_options(seed, epochs, options))
    return network


def slimmed(network: nn.Module) -> nn.Module:
    """Only the channels of largest L1 norm, as many as the small network has."""
    scores = channel_scores(network, "l1", example=EXAMPLE)
    shares = {name: width / len(scores[name]) for name, width in zip(scores, SMALL, strict=True)}
    return prune_filters(network, best_channels(scores, shares), example=EXAMPLE)


def rounding(network: nn.Module) -> nn.Module:
    """The network with 8-bit weights and activations, ready to be trained or attacked through its rounding."""
    folded = fold_batchnorm(network)
    return fake_quantize_model(folded, activation_bits=8, ranges=calibrate(folded, calibration_batches()))


def through_rounding(network: nn.Module, seed: int, epochs: int = BUDGET["through rounding"]) -> nn.Module:
    return taught(rounding(network), seed, epochs, ROUNDING)


def onnx_file(network: nn.Module, path: Path) -> Path:
    to_onnx(network, path, digits().train.images[:2])
    return path


def int8_file(network: nn.Module, path: Path) -> Path:
    """Write the network in whole numbers; what was trained through its rounding keeps its grid."""
    with tempfile.TemporaryDirectory() as folder:
        whole = onnx_file(bake(network), Path(folder) / "float.onnx")
        quantize_static(whole, path, calibration_batches())
    return path


# --- the chain, and other orders of it --------------------------------------------------------------------------------


@kept
def student(seed: int) -> nn.Module:
    return taught(conv_net(STUDENT, seed=seed + 10), seed, BUDGET["student"], FIRST)


@kept
def recovered(seed: int) -> nn.Module:
    return taught(slimmed(student(seed)), seed, BUDGET["recovery"], AFTER)


@kept
def chain(seed: int) -> nn.Module:
    return through_rounding(recovered(seed), seed)


def teacher_pruned(seed: int) -> nn.Module:
    """The channels go first, from the teacher itself; then it is distilled."""
    return through_rounding(taught(slimmed(teacher(seed)), seed, 45, FIRST), seed)


def labels_first(seed: int) -> nn.Module:
    """A student on labels, its channels removed, and only then the teacher."""
    alone = labelled(conv_net(STUDENT, seed=seed + 10), seed, BUDGET["student"], FIRST)
    return through_rounding(taught(slimmed(alone), seed, BUDGET["recovery"], AFTER), seed)


def quantize_aware(seed: int) -> nn.Module:
    """Rounded almost from the start: six epochs give the activations a range, all others go through the rounding."""
    begun = taught(conv_net(SMALL, seed=seed + 10), seed, 6, FIRST)
    return through_rounding(begun, seed, WHOLE - 6)


def straight(seed: int, widths: tuple[int, ...] = SMALL) -> nn.Module:
    return through_rounding(taught(conv_net(widths, seed=seed + 10), seed, 45, FIRST), seed)


@kept
def no_teacher(seed: int) -> nn.Module:
    """The control: the small network on labels, to the end."""
    alone = labelled(conv_net(SMALL, seed=seed + 10), seed, 45, FIRST)
    return labelled(rounding(alone), seed, BUDGET["through rounding"], ROUNDING)


Make = Callable[[int], nn.Module]
FLOAT: dict[str, Make] = {
    "wide teacher": teacher,
    "student": student,
    "channels removed": lambda seed: slimmed(student(seed)),
    "recovered": recovered,
}
INT8: dict[tuple[str, str], Make] = {
    ("chain", "int8, calibrated"): lambda seed: rounding(recovered(seed)),
    ("chain", "int8, trained through"): chain,
    ("prune the teacher, distil", "int8, trained through"): teacher_pruned,
    ("labels, prune, distil", "int8, trained through"): labels_first,
    ("quantize-aware only", "int8, trained through"): quantize_aware,
    ("straight to small", "int8, trained through"): straight,
    ("labels only", "int8, trained through"): no_teacher,
    ("straight to 12-24-36", "int8, trained through"): partial(straight, widths=(12, 24, 36)),
    ("straight to 8-16-24", "int8, trained through"): partial(straight, widths=(8, 16, 24)),
    ("teacher, rounded only", "int8, calibrated"): lambda seed: rounding(teacher(seed)),
}


# --- what is measured -------------------------------------------------------------------------------------------------


@cache
def hardest() -> Tensor:
    """Chosen by a network that takes no part: the errors of one that does would be in it by construction."""
    test = digits().test
    judged = predict(load_model(data_dir() / "teacher.safetensors"), test.images).softmax(dim=1)
    return judged[torch.arange(len(test.labels)), test.labels].argsort()[:100]


def scores(run: Callable[[Tensor], Tensor], seed: int) -> dict[str, Any]:
    """Accuracies, calibration, agreement, and where the errors lie, of anything that gives logits for images."""
    test, of_teacher = digits().test, predict(teacher(seed), digits().test.images)
    logits = run(test.images)
    right = logits.argmax(dim=1) == test.labels
    return {
        "validation": accuracy(run(digits().validation.images), digits().validation.labels),
        "test": right.double().mean().item(),
        "test_ece": expected_calibration_error(logits, test.labels),
        "agreement with teacher": agreement(logits, of_teacher),
        "hardest": right[hardest()].double().mean().item(),
        "by class": [round(right[test.labels == digit].double().mean().item(), 4) for digit in range(10)],
        "corrupted": {name: accuracy(run(worse(test.images)), test.labels) for name, worse in CORRUPTIONS.items()},
    }


def attacked(run: Callable[[Tensor], Tensor], gradients: nn.Module, seed: int) -> dict[str, float]:
    """Accuracy on images attacked through ``gradients``, the same network where it can be differentiated."""
    test: Split = digits().test
    found = {}
    for epsilon in EPSILONS:
        worse = [
            pgd_attack(gradients, images, labels, epsilon=epsilon, seed=seed)
            for images, labels in zip(test.images.split(250), test.labels.split(250), strict=True)
        ]
        found[str(epsilon)] = accuracy(run(torch.cat(worse)), test.labels)
    return found


def measure(arm: str, stage: str, seed: int) -> dict[str, Any]:
    """Make one stage of one arm and report it."""
    with tempfile.TemporaryDirectory() as folder:
        if (arm, stage) in INT8:
            network = INT8[arm, stage](seed)
            run = session(path := int8_file(network, Path(folder) / "int8.onnx"))
        elif stage == "recovered, in onnxruntime":
            network = recovered(seed)
            run = session(path := onnx_file(network, Path(folder) / "float.onnx"))
        else:
            network = FLOAT[stage](seed)
            run, path = partial(predict, network), Path(folder) / "network.safetensors"
            save_model(network, path)
        found = scores(run, seed) | {"attacked": attacked(run, network, seed), "bytes": file_bytes(path)}
    plain = bake(network)
    size = {"parameters": count_parameters(plain), "macs": count_macs(plain, EXAMPLE), "channels": channels(plain)}
    return found | size


def channels(network: nn.Module) -> tuple[int, ...]:
    return tuple(layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d))


def measure_time(timed: str) -> dict[str, Any]:
    """Milliseconds of the networks and files of seed 0 against each other, ``timed`` the number of images at once."""
    batch, calls = digits().test.images[: int(timed)], dict[str, Callable[[], object]]()
    with tempfile.TemporaryDirectory() as folder:
        for stage, make in FLOAT.items():
            calls[stage] = partial(make(0), batch)
        for name, make in (("wide teacher", teacher), ("recovered", recovered)):
            file = onnx_file(make(0), Path(folder) / f"{name}.onnx")
            calls[f"{name}, in onnxruntime"] = partial(session(file), batch)
        # how long whole numbers take depends on the shape alone
        for widths in (WIDE, SMALL, (12, 24, 36), (8, 16, 24)):
            name = "int8 " + "-".join(map(str, widths))
            file = int8_file(rounding(conv_net(widths).eval()), Path(folder) / f"{name}.onnx")
            calls[name] = partial(session(file), batch)
        found = latency(calls, repeats=60 if len(batch) > 1 else 300)
    return {"milliseconds": {name: [round(value, 4) for value in times] for name, times in found.items()}}


def main() -> None:
    torch.set_num_threads(1)
    floats = [("chain", stage) for stage in (*FLOAT, "recovered, in onnxruntime")]
    keys = [{"arm": arm, "stage": stage, "seed": seed} for seed in SEEDS for arm, stage in [*floats, *INT8]]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)
    store.resume_all(RESULTS, [{"timed": "1"}, {"timed": "256"}], measure_time, recipe=RECIPE)


if __name__ == "__main__":
    main()
