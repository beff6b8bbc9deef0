"""The comparisons of notebook 04 on the embedded digits, five paired seeds an arm.

Every arm trains the same MLP-128 for the same 75 epochs unless its name says otherwise. Arms whose name begins
with "sweep" choose something and are measured on validation alone; all others are measured on test as well.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse.data import Split, data_dir, load_mnist, random_affine
from kdcourse.losses import label_smoothing_loss
from kdcourse.metrics import agreement
from kdcourse.models import conv_net, load_model, mlp
from kdcourse.seeds import seeded
from kdcourse.training import distill, evaluate, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
EPOCHS = 75
RECIPE: dict[str, Any] = {
    "warm-up": "from a tenth of the rate",
    "student": "mlp((128,))",
    "training": {"epochs": EPOCHS, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 0.01},
    "distillation": {"temperature": 4.0, "alpha": 0.9},
    "chosen on validation": {"temperature": 10.0, "alpha": 1.0},
    "teacher": "data/teacher.safetensors",
}
CHOSEN = RECIPE["chosen on validation"]
Arm = Callable[[nn.Module, int], None]

digits = cache(load_mnist)
shipped = cache(lambda: load_model(data_dir() / "teacher.safetensors"))


@cache
def hasty_teacher() -> nn.Module:
    """The teacher's network after two epochs without augmentation."""
    network = conv_net(seed=0)
    fit(network, digits().train, epochs=2, learning_rate=4e-3, progress=False)
    return network


@cache
def wide_teacher() -> nn.Module:
    """Twelve times the teacher's parameters, and twice its epochs."""
    network = conv_net((64, 128, 192), seed=0)
    fit(network, digits().train, epochs=60, learning_rate=4e-3, augment=random_affine(), progress=False)
    return network


def alone(student: nn.Module, seed: int, *, train: Split | None = None, epochs: int = EPOCHS, **options: Any) -> None:
    fit(student, train or digits().train, epochs=epochs, seed=seed, progress=False, **options)


def taught(
    student: nn.Module,
    seed: int,
    *,
    teacher: Callable[[], nn.Module | Tensor] = shipped,
    epochs: int = EPOCHS,
    temperature: float | Callable[[float], float] = 4.0,
    alpha: float | Callable[[float], float] = 0.9,
    **options: Any,
) -> None:
    options |= {"temperature": temperature, "alpha": alpha, "epochs": epochs, "seed": seed, "progress": False}
    distill(student, teacher(), digits().train, **options)


def placebo() -> Tensor:
    """The teacher's logits, shuffled among the images of each class."""
    train = digits().train
    logits = predict(shipped(), train.images)
    with seeded(0):
        for digit in range(10):
            rows = (train.labels == digit).nonzero().flatten()
            logits[rows] = logits[rows[torch.randperm(len(rows))]]
    return logits


def smoothed(student: nn.Module, seed: int, *, smoothing: float) -> None:
    alone(student, seed, loss=partial(label_smoothing_loss, smoothing=smoothing))


def few(labels: int) -> Split:
    """As many training images with their labels, the same number of each class."""
    return store.first_of_each(digits().train, labels // 10)


ARMS: dict[str, tuple[Arm, tuple[int, ...]]] = {
    "alone": (alone, (128,)),
    "distilled": (taught, (128,)),
    "distilled, chosen": (partial(taught, **CHOSEN), (128,)),
    "alone, 200 epochs": (partial(alone, epochs=200), (128,)),
    "distilled, chosen, 200 epochs": (partial(taught, **CHOSEN, epochs=200), (128,)),
    "placebo": (partial(taught, teacher=cache(placebo)), (128,)),
    "alone, augmented": (partial(alone, augment=random_affine()), (128,)),
    "distilled, augmented": (partial(taught, augment=random_affine()), (128,)),
    "alpha falls from 1 to 0": (partial(taught, alpha=lambda done: 1 - done), (128,)),
    "alpha 0.9, labels alone for the last fifth": (partial(taught, alpha=lambda done: 0.9 * (done < 0.8)), (128,)),
    "labels of 100 images": (lambda student, seed: alone(student, seed, train=few(100), epochs=1000), (128,)),
    "no labels, the teacher on all images": (partial(taught, alpha=1.0), (128,)),
}
ARMS |= {f"sweep T={t} alpha={a}": (partial(taught, temperature=t, alpha=a), (128,))
         for t in (1.0, 2.0, 4.0, 7.0, 10.0, 15.0) for a in (0.5, 0.9, 1.0)}  # fmt: skip
ARMS |= {f"sweep smoothing={s}": (partial(smoothed, smoothing=s), (128,)) for s in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)}
ARMS |= {"label smoothing, chosen": (partial(smoothed, smoothing=0.6), (128,))}
for epochs in (5, 10, 20, 40, 150, 300):
    ARMS[f"alone, {epochs} epochs"] = (partial(alone, epochs=epochs), (128,))
    ARMS[f"distilled, {epochs} epochs"] = (partial(taught, epochs=epochs), (128,))
for width in (4, 8, 32, 512):
    ARMS[f"alone, {width} units"] = (alone, (width,))
    ARMS[f"distilled, {width} units"] = (taught, (width,))
for name, source in {"hasty": hasty_teacher, "wide": wide_teacher}.items():
    for width in (32, 128):
        ARMS[f"distilled, {name} teacher, {width} units"] = (partial(taught, teacher=source), (width,))
ARMS["distilled, chosen, wide teacher"] = (partial(taught, **CHOSEN, teacher=wide_teacher), (128,))


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Train one student and report it."""
    train_it, hidden = ARMS[arm]
    student = mlp(hidden, seed=seed)
    train_it(student, seed)
    found = {"validation": evaluate(student, digits().validation).accuracy}
    if not arm.startswith("sweep"):
        test, logits = evaluate(student, digits().test), predict(student, digits().test.images)
        found |= {"test": test.accuracy, "test_cross_entropy": test.cross_entropy, "test_ece": test.calibration_error}
        found |= {"agreement": agreement(logits, predict(shipped(), digits().test.images))}
    return found


def measure_teacher(name: str) -> dict[str, float]:
    teacher = {"shipped": shipped, "hasty": hasty_teacher, "wide": wide_teacher}[name]()
    return {split: evaluate(teacher, getattr(digits(), split)).accuracy for split in ("train", "validation", "test")}


def main() -> None:
    for name in ("shipped", "hasty", "wide"):
        store.resume(RESULTS, {"teacher": name}, partial(measure_teacher, name), recipe=RECIPE)
    keys = [{"arm": arm, "seed": seed} for arm in ARMS for seed in SEEDS]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
