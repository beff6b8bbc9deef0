"""The comparisons of notebook 13 with several answers per image, five paired seeds an arm.

"two tasks": turned digits, whose digit (10 classes) and angle (4) are asked for. One trunk with 14 outputs against two
networks that have as many parameters together; all train for the same number of updates. "two digits": one or two
different digits in one picture, 10 outputs that are each yes or no. Each arm has two tries of a knob of its own.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data import Mnist, Split, load_mnist
from kdcourse.losses import kd_loss, multilabel_kd_loss
from kdcourse.metrics import accuracy
from kdcourse.models import conv_net, mlp
from kdcourse.seeds import seeded
from kdcourse.training import fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, DIGITS, ANGLES = range(5), 10, (-45.0, -15.0, 15.0, 45.0)
TEACHER, TRUNK, HALF = (8, 16, 24), (16,), (8,)
TEACHING: dict[str, Any] = {"epochs": 6, "batch_size": 64, "learning_rate": 1e-2, "progress": False}
TRAINING: dict[str, Any] = {"epochs": 60, "learning_rate": 5e-3, "progress": False}
TEMPERATURES, RATES = {"two tasks": (1.0, 2.0), "two digits": (1.0, 3.0)}, (5e-3, 1e-2)
RECIPE: dict[str, Any] = {
    "networks": {
        "teachers": f"conv_net({TEACHER})",
        "trunk, and for two digits": f"mlp({TRUNK})",
        "each of two": f"mlp({HALF})",
    },
    "training": {"teachers": TEACHING, "others": TRAINING},
    "angles": ANGLES,
    "tries": {"distilled": {"temperature": TEMPERATURES}, "labels": {"learning_rate": RATES}},
    "two digits": {"shift": 5, "a second one": "with probability 1/2"},
}


def network(sizes: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """The teachers' `conv_net`, or an `mlp`, with another number of outputs."""
    model = (conv_net if sizes == TEACHER else mlp)(sizes, seed=seed)
    with seeded(seed):
        model.classes = nn.Linear(model.classes.in_features, outputs)
    return model


@cache
def turned() -> Mnist:
    """Every digit turned by one of four angles, at random; labels (N, 2): the digit, the angle's number."""
    splits = []
    for number, split in enumerate(load_mnist()):
        with seeded(number):
            which = torch.randint(len(ANGLES), split.labels.shape)
        angle = torch.tensor(ANGLES).deg2rad()[which]
        rows = torch.stack([angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle], dim=1)
        grid = F.affine_grid(rows.reshape(-1, 2, 3), list(split.images.shape), align_corners=False)
        images = F.grid_sample(split.images, grid, align_corners=False)
        splits.append(Split(images, torch.stack([split.labels, which], dim=1)))
    return Mnist(*splits)


@cache
def overlaid() -> Mnist:
    """One or two digits in a picture, moved left and right by 5 pixels; labels (N, 10) of zeros and ones."""
    splits = []
    for number, split in enumerate(load_mnist()):
        with seeded(number):
            other = torch.randperm(len(split.labels))
            two = torch.rand(len(other)) < 0.5
        two &= split.labels != split.labels[other]
        left = F.pad(split.images, (0, 10, 0, 0))[..., 5:33]
        right = F.pad(split.images[other], (10, 0, 0, 0))[..., 5:33]
        images = torch.where(two[:, None, None, None], torch.maximum(left, right), left)
        present = F.one_hot(split.labels, 10) | F.one_hot(split.labels[other], 10) * two[:, None]
        splits.append(Split(images, present.float()))
    return Mnist(*splits)


def train(
    model: nn.Module, images: Tensor, targets: Tensor, loss: Callable[..., Tensor], seed: int, **other: Any
) -> nn.Module:
    fit(model, Split(images, targets), loss=loss, seed=seed, **TRAINING | other)
    return model


@cache
def teacher(task: str, seed: int) -> nn.Module:
    if task == "two digits":
        images, labels = overlaid().train
        return train(network(TEACHER, 10, 50 + seed), images, labels, yes_or_no, seed, **TEACHING)
    column = ("digit", "angle").index(task)
    images, labels = turned().train
    model = network(TEACHER, (DIGITS, len(ANGLES))[column], 50 + seed)
    return train(model, images, labels[:, column], F.cross_entropy, seed, **TEACHING)


def yes_or_no(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over the classes of the binary cross-entropy, mean over the pictures."""
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(dim=-1).mean()


def both_labels(logits: Tensor, labels: Tensor) -> Tensor:
    digit, angle = logits.split([DIGITS, len(ANGLES)], dim=-1)
    return F.cross_entropy(digit, labels[:, 0]) + F.cross_entropy(angle, labels[:, 1])


def both_teachers(logits: Tensor, taught: Tensor, *, temperature: float) -> Tensor:
    """Each task's distillation loss, its softmax over that task's own classes."""
    pairs = zip(*(each.split([DIGITS, len(ANGLES)], dim=-1) for each in (logits, taught)), strict=True)
    first, second = (kd_loss(student, soft, temperature=temperature) for student, soft in pairs)
    return first + second


def shuffled_within(logits: Tensor, labels: Tensor, seed: int) -> Tensor:
    """The teachers' logits, each row that of another image with the same labels."""
    kind = (
        (labels * torch.tensor([10, 1])).sum(dim=1) if labels.dtype == torch.int64 else labels @ 2.0 ** torch.arange(10)
    )
    logits = logits.clone()
    with seeded(seed):
        for value in kind.unique():
            rows = (kind == value).nonzero().flatten()
            logits[rows] = logits[rows[torch.randperm(len(rows))]]
    return logits


def one_trunk(arm: str, seed: int, knob: float) -> Tensor:
    """Test and validation logits (1500, 14) of one network for both tasks."""
    images, labels = turned().train
    model = network(TRUNK, DIGITS + len(ANGLES), seed)
    if arm == "one trunk, labels":
        train(model, images, labels, both_labels, seed, learning_rate=knob)
    else:
        soft = torch.cat([predict(teacher(task, seed), images) for task in ("digit", "angle")], dim=-1)
        soft = shuffled_within(soft, labels, seed) if "shuffled" in arm else soft
        train(model, images, soft, partial(both_teachers, temperature=knob), seed)
    return predict(model, held_out(turned()))


def two_halves(arm: str, seed: int, knob: float) -> Tensor:
    """The same of two smaller networks."""
    images, labels = turned().train
    found = []
    for column, (task, outputs) in enumerate((("digit", DIGITS), ("angle", len(ANGLES)))):
        model = network(HALF, outputs, seed)
        if arm == "two networks, labels":
            train(model, images, labels[:, column], F.cross_entropy, seed, learning_rate=knob)
        else:
            soft = predict(teacher(task, seed), images)
            train(model, images, soft, partial(kd_loss, temperature=knob), seed)
        found.append(predict(model, held_out(turned())))
    return torch.cat(found, dim=-1)


def held_out(digits: Mnist) -> Tensor:
    return torch.cat([digits.test.images, digits.validation.images])


def of_two_tasks(logits: Tensor) -> dict[str, float]:
    """Accuracies of logits (1500, 14): each task's on test, their mean on validation."""
    parts = logits.split([DIGITS, len(ANGLES)], dim=-1)
    test, held = turned().test.labels, turned().validation.labels
    on_test = [accuracy(part[:1000], test[:, column]) for column, part in enumerate(parts)]
    on_validation = [accuracy(part[1000:], held[:, column]) for column, part in enumerate(parts)]
    return {"validation": sum(on_validation) / 2, "digit": on_test[0], "angle": on_test[1], "test": sum(on_test) / 2}


def of_two_digits(logits: Tensor) -> dict[str, float]:
    """Fraction of pictures (1500 logits) whose set of digits is right: at the threshold 0, and at validation's best."""
    test, held = overlaid().test.labels.bool(), overlaid().validation.labels.bool()

    def right(part: Tensor, labels: Tensor, threshold: float) -> float:
        return ((part > threshold) == labels).all(dim=-1).double().mean().item()

    candidates = torch.linspace(-10, 10, 81).tolist()
    best = max(candidates, key=lambda each: right(logits[1000:], held, each))
    return {
        "validation": right(logits[1000:], held, best),
        "test": right(logits[:1000], test, best),
        "test at 0": right(logits[:1000], test, 0.0),
        "chosen threshold": best,
    }


def two_digits(arm: str, seed: int, knob: float) -> Tensor:
    images, labels = overlaid().train
    model = network(TRUNK, 10, seed)
    if arm == "two digits, labels":
        train(model, images, labels, yes_or_no, seed, learning_rate=knob)
    else:
        soft = predict(teacher("two digits", seed), images)
        soft = shuffled_within(soft, labels, seed) if "shuffled" in arm else soft
        loss = kd_loss if "softmax" in arm else multilabel_kd_loss
        train(model, images, soft, partial(loss, temperature=knob), seed)
    return predict(model, held_out(overlaid()))


ARMS: dict[str, Callable[[str, int, float], Tensor]] = {
    "two networks, labels": two_halves,
    "two networks, distilled": two_halves,
    "one trunk, labels": one_trunk,
    "one trunk, distilled": one_trunk,
    "one trunk, shuffled": one_trunk,
    "two digits, labels": two_digits,
    "two digits, multilabel": two_digits,
    "two digits, shuffled": two_digits,
    "two digits, softmax": two_digits,
}


def measure(arm: str, seed: int, **knob: float) -> dict[str, Any]:
    """Train one arm and report it."""
    logits = ARMS[arm](arm, seed, *knob.values())
    return of_two_digits(logits) if arm.startswith("two digits") else of_two_tasks(logits)


def measure_teachers(seed: int) -> dict[str, float]:
    tasks = torch.cat([predict(teacher(task, seed), held_out(turned())) for task in ("digit", "angle")], dim=-1)
    digits = of_two_digits(predict(teacher("two digits", seed), held_out(overlaid())))
    return of_two_tasks(tasks) | {f"two digits, {name}": value for name, value in digits.items()}


def knobs(arm: str) -> list[dict[str, float]]:
    if arm.endswith("labels"):
        return [{"learning_rate": rate} for rate in RATES]
    return [{"temperature": each} for each in TEMPERATURES["two digits" if "digits" in arm else "two tasks"]]


def wanted() -> list[dict[str, Any]]:
    return [{"arm": arm, "seed": seed} | knob for arm in ARMS for knob in knobs(arm) for seed in SEEDS]


def main() -> None:
    torch.set_num_threads(1)
    for seed in SEEDS:
        store.resume(RESULTS, {"teachers": seed}, partial(measure_teachers, seed), recipe=RECIPE)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
