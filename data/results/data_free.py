"""The comparison of notebook 12 without data: images for a student of the shipped teacher, from little or nothing.

Every arm gives 500 images without labels. A new student is then distilled on them, in the same way in all arms, five
seeds each. Settings of the inversion and the generator were tried out on validation images, with seed 100; those of the
cheap arms were not. All are the same for the five seeds.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from kdcourse.averaging import reset_batchnorm
from kdcourse.data import Split, data_dir, load_mnist, random_affine
from kdcourse.domains import like_mnist
from kdcourse.features import outputs_of
from kdcourse.metrics import agreement, entropy
from kdcourse.models import conv_net, load_model
from kdcourse.seeds import seeded
from kdcourse.training import distill, evaluate, fit, frozen, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
IMAGES = 500
STUDENT: dict[str, Any] = {"epochs": 60, "temperature": 4.0, "alpha": 1.0, "progress": False}
INVERSION: dict[str, Any] = {"steps": 100, "learning_rate": 0.1, "start": 0.2, "batch norm": 10.0}
GENERATOR: dict[str, Any] = {"rounds": 200, "batch": 64, "student steps": 3, "noise": 64, "learning_rate": 1e-3}
RECIPE: dict[str, Any] = {
    "teacher": "data/teacher.safetensors",
    "student": {"network": "conv_net((8, 16, 24))", "images": IMAGES} | STUDENT,
    "inversion": INVERSION,
    "generator": GENERATOR,
    "tried out": "six settings of the inversion and two of the generator, with seed 100, on validation; no other arm",
}

digits = cache(load_mnist)
shipped = cache(lambda: load_model(data_dir() / "teacher.safetensors"))


def real(seed: int, count: int = IMAGES) -> Split:
    with seeded(seed):
        return digits().train.take(torch.randperm(len(digits().train.images))[:count])


def matched(seed: int, count: int = IMAGES) -> Tensor:
    """Each pixel normal, with the mean and the variance that it has in the training images."""
    train = digits().train.images
    return (train.mean(dim=0) + train.std(dim=0) * torch.randn(count, 1, 28, 28)).clamp(0, 1)


def patches(seed: int, count: int = IMAGES) -> Tensor:
    """Squares of 7 to 28 pixels of one image, turned by any angle, and made as large as an image."""
    [image] = real(seed, 1).images
    turned = random_affine(degrees=180, translate=0, scale=0, shear=0)(image.expand(count, 1, 28, 28))
    sides = torch.randint(7, 29, (count,)).tolist()
    corners = [torch.randint(29 - side, (2,)).tolist() for side in sides]
    cut = [one[None, :, y : y + side, x : x + side] for one, side, (y, x) in zip(turned, sides, corners, strict=True)]
    return torch.cat([F.interpolate(one, size=28, mode="bilinear") for one in cut])


def other_digits(seed: int) -> Tensor:
    """Digits of 8 × 8 pixels by other writers, in MNIST's form."""
    small = torch.from_numpy(load_digits().images).float()
    return like_mnist(small[torch.randperm(len(small))[:IMAGES]])


def batchnorm_loss(teacher: nn.Module, maps: dict[str, Tensor]) -> Tensor:
    """How far a batch's means and variances are from those that the teacher's batch norms collected."""
    total = torch.zeros(())
    for name, before in maps.items():
        norm = teacher.get_submodule(name.replace("conv", "norm"))
        mean, variance = before.mean(dim=(0, 2, 3)), before.var(dim=(0, 2, 3))
        total = total + (mean - norm.running_mean).square().sum() + (variance - norm.running_var).square().sum()
    return total


def inverted(seed: int, *, weight: float = INVERSION["batch norm"], count: int = IMAGES) -> Tensor:
    """Images that the teacher takes for the classes 0 to 9, and that have its batch norms' statistics."""
    teacher, targets = shipped(), torch.arange(count) % 10
    images = (INVERSION["start"] * torch.rand(count, 1, 28, 28)).requires_grad_()
    optimizer = torch.optim.Adam([images], lr=INVERSION["learning_rate"])
    with frozen(teacher), outputs_of(teacher, ["conv1", "conv2", "conv3"]) as maps:
        for _ in range(INVERSION["steps"]):
            loss = F.cross_entropy(teacher(images), targets)
            loss = loss + weight * batchnorm_loss(teacher, maps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                images.clamp_(0, 1)
    return images.detach()


def generator() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(GENERATOR["noise"], 32 * 49),
        nn.Unflatten(1, (32, 7, 7)),
        nn.BatchNorm2d(32),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(32, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 1, 3, padding=1),
        nn.Sigmoid(),
    )


def adversarial(seed: int, rounds: int = GENERATOR["rounds"]) -> tuple[nn.Module, nn.Module]:
    """A generator that looks for images on which student and teacher differ, and the student that learns from it."""
    teacher, student, makes = shipped(), conv_net((8, 16, 24), seed=seed).train(), generator().train()
    learns = torch.optim.AdamW(student.parameters(), lr=2e-3)
    invents = torch.optim.AdamW(makes.parameters(), lr=GENERATOR["learning_rate"])

    def noise() -> Tensor:
        return torch.randn(GENERATOR["batch"], GENERATOR["noise"])

    with frozen(teacher):
        for _ in range(rounds):
            for _ in range(GENERATOR["student steps"]):
                fakes = makes(noise()).detach()
                learns.zero_grad()
                (student(fakes) - teacher(fakes)).abs().mean().backward()
                learns.step()
            fakes = makes(noise())
            invents.zero_grad()
            (-(student(fakes) - teacher(fakes)).abs().mean()).backward()
            invents.step()
    return makes, student.eval()


@cache
def trained_generator(seed: int) -> tuple[nn.Module, nn.Module]:
    with seeded(seed):
        return adversarial(seed)


def generated(seed: int, *, trained: bool) -> Tensor:
    makes = trained_generator(seed)[0] if trained else generator().train()
    with torch.no_grad():
        return makes(torch.randn(IMAGES, GENERATOR["noise"]))


STREAMS: dict[str, Callable[[int, int], Tensor]] = {
    "noise, pixels' mean and variance, each seen once": matched,
    "patches of one image, each seen once": patches,
}
ARMS: dict[str, Callable[[int], Tensor]] = {
    "Gaussian noise": lambda seed: torch.randn(IMAGES, 1, 28, 28),
    "noise, pixels' mean and variance": matched,
    "patches of one image": patches,
    "other digits": other_digits,
    "real, unlabelled": lambda seed: real(seed).images,
    "real, predicted classes": lambda seed: real(seed).images,
    "real, true labels": lambda seed: real(seed).images,
    "inverted": inverted,
    "inverted, classes only": partial(inverted, weight=0.0),
    "generator": partial(generated, trained=True),
    "generator, untrained": partial(generated, trained=False),
    "generator's own student": partial(generated, trained=True),
    **STREAMS,  # the first 500 of them are what is reported of the images
}


def streamed(arm: str, seed: int) -> nn.Module:
    """A student that sees as many images as the generator's own, in as many steps, each of them once."""
    steps, batch = GENERATOR["rounds"] * GENERATOR["student steps"], GENERATOR["batch"]
    with seeded(seed):
        batches = STREAMS[arm](seed, steps * batch).split(batch)
    student = conv_net((8, 16, 24), seed=seed)
    distill(student, shipped(), batches, **STUDENT | {"epochs": 1}, seed=seed)
    return student


def student_on(images: Tensor, arm: str, seed: int) -> nn.Module:
    """A new student: the teacher's logits are its targets, except where the arm's name says otherwise."""
    if arm == "generator's own student":
        return trained_generator(seed)[1]
    if arm in STREAMS:
        return streamed(arm, seed)
    student, logits = conv_net((8, 16, 24), seed=seed), predict(shipped(), images)
    if arm in ("real, predicted classes", "real, true labels"):
        classes = logits.argmax(dim=1) if arm == "real, predicted classes" else real(seed).labels
        fit(student, Split(images, classes), epochs=STUDENT["epochs"], seed=seed, progress=False)
    else:
        distill(student, logits, Split(images, logits.argmax(dim=1)), **STUDENT, seed=seed)
    return student


def measure(arm: str, seed: int) -> dict[str, Any]:
    test = digits().test
    with seeded(seed):
        images = ARMS[arm](seed)
    student, taught = student_on(images, arm, seed), predict(shipped(), images)
    classes = taught.softmax(dim=1).mean(dim=0)
    return {
        "test": evaluate(student, test).accuracy,
        "agreement": agreement(predict(student, test.images), predict(shipped(), test.images)),
        "teacher's entropy": entropy(taught).mean().item(),
        "entropy of the classes": entropy(classes.log()).item(),
        "mean pixel": images.mean().item(),
        "test, statistics of 100 real images": evaluate(
            reset_batchnorm(student, [real(seed + 1000, 100).images]), test
        ).accuracy,
    }


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # gradients of almost 0 take five times as long
    store.resume_all(RESULTS, [{"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS], measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
