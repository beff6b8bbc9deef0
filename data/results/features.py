"""The comparison of notebook 11: what a teacher's layer gives a student of 200 labelled digits, five paired seeds.

Every arm trains the same student on the same 200 images for the same number of steps, and has three tries, of which
the one that is best on validation is measured on test, in each seed anew.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data import Split, data_dir, load_mnist
from kdcourse.features import FeatureTerm, outputs_of
from kdcourse.losses.features import attention_transfer_loss, hint_loss, mmd_loss
from kdcourse.losses.relations import relation_angle_loss, relation_distance_loss, similarity_loss
from kdcourse.metrics import agreement, cka
from kdcourse.models import conv_net, load_model, mlp
from kdcourse.seeds import seeded
from kdcourse.training import distill, evaluate, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
TRAINING: dict[str, Any] = {"epochs": 60, "batch_size": 50, "learning_rate": 4e-3, "weight_decay": 0.01}
PAIRS: dict[str, dict[str, Any]] = {
    "same family": {"student": "conv_net((4, 8, 12))", "layer": "relu3", "as maps": [12, 4, 4]},
    "another family": {"student": "mlp((64,))", "layer": "relu1", "as maps": [4, 4, 4]},
}
RATIOS = (0.1, 1.0, 10.0)
RECIPE: dict[str, Any] = {
    "training": TRAINING,
    "images": "the first 20 training images of each digit",
    "teacher": "data/teacher.safetensors, layer relu3: 48 maps of 4 × 4",
    "pairs": PAIRS,
    "tries": {
        "labels": {"learning_rate": [2e-3, 4e-3, 8e-3]},
        "logits": {"temperature": [2.0, 4.0, 10.0], "alpha": 0.9},
        "feature losses": {
            "gradient, as a multiple of the labels'": RATIOS,
            "measured": "on 50 images before training",
        },
        "noisy images": {"standard deviation": [0.05, 0.1, 0.2], "temperature": 4.0, "alpha": 0.9},
    },
}
Loss = Callable[[Tensor, Tensor], Tensor]

digits = cache(load_mnist)
shipped = cache(lambda: load_model(data_dir() / "teacher.safetensors"))


@cache
def few() -> Split:
    """20 labelled images of each digit."""
    return store.first_of_each(digits().train, 20)


class Misled(nn.Module):
    """The teacher, shown another image than the one asked for: always the same one."""

    def __init__(self, teacher: nn.Module, images: Tensor, order: Tensor) -> None:
        super().__init__()
        self.teacher, self.images, self.order = teacher, images, order

    def forward(self, images: Tensor) -> Tensor:
        rows = torch.cdist(images.flatten(1), self.images.flatten(1)).argmin(dim=1)
        return self.teacher(self.images[self.order[rows]])


def shuffled(seed: int, *, within: bool) -> nn.Module:
    """The teacher on other images: of the same class, or of any."""
    train = few()
    with seeded(seed):
        order = torch.randperm(len(train.labels))
        if within:
            for digit in range(10):
                rows = (train.labels == digit).nonzero().flatten()
                order[rows] = rows[torch.randperm(len(rows))]
    return Misled(shipped(), train.images, order).eval()


def relations(student: Tensor, teacher: Tensor) -> Tensor:
    """Distances and angles, the angles with twice the weight, as in the paper."""
    return relation_distance_loss(student, teacher) + 2 * relation_angle_loss(student, teacher)


FEATURES: dict[str, Loss] = {
    "hint": hint_loss,
    "attention": attention_transfer_loss,
    "relations": relations,
    "similarity": similarity_loss,
    "maximum mean discrepancy": mmd_loss,
}
PLACEBOS = {
    "hint, frozen regressor": lambda seed: shipped(),
    "hint, untrained teacher": lambda seed: conv_net(seed=100 + seed).eval(),
    "hint, other images of the class": partial(shuffled, within=True),
    "hint, other images": partial(shuffled, within=False),
}
NOISY = {"labels, noisy images": 0.0, "logits, noisy images": 0.9}
ARMS = ["labels", "logits", *FEATURES, *PLACEBOS, *NOISY]
BEST = "logits and the best feature loss"


def new_student(pair: str, seed: int) -> nn.Module:
    return conv_net((4, 8, 12), seed=seed) if pair == "same family" else mlp((64,), seed=seed)


def new_regressor(pair: str, arm: str, seed: int) -> nn.Module:
    """From the student's layer to what the loss compares."""
    with seeded(seed):
        if arm.startswith("hint"):
            conv = nn.Conv2d(12, 48, 1)
            found: nn.Module = (
                conv if pair == "same family" else nn.Sequential(nn.Linear(64, 768), nn.Unflatten(1, (48, 4, 4)))
            )
        else:
            found = nn.Unflatten(1, (4, 4, 4)) if pair == "another family" else nn.Identity()
    return found.requires_grad_(arm != "hint, frozen regressor")


def weight_for(ratio: float, student: nn.Module, teacher: nn.Module, term: FeatureTerm) -> float:
    """The weight that makes the term's gradient ``ratio`` times that of the labels, in the layers both reach.

    ``student`` is not the one to be trained: a batch moves the running statistics.
    """
    batch = few().take(torch.arange(0, 200, 4))
    with (
        outputs_of(student, [term.student_layer]) as of_student,
        outputs_of(teacher, [term.teacher_layer]) as of_teacher,
    ):
        labels, _ = F.cross_entropy(student(batch.images), batch.labels), teacher(batch.images)
        features = term.loss(term.regressor(of_student[term.student_layer]), of_teacher[term.teacher_layer])
    parameters = [each for name, each in student.named_parameters() if not name.startswith("classes")]
    lengths = [nn.utils.get_total_norm(torch.autograd.grad(loss, parameters, retain_graph=True)).item()
               for loss in (labels, features)]  # fmt: skip
    return ratio * lengths[0] / lengths[1]


def with_features(
    pair: str, arm: str, seed: int, ratio: float, *, loss: Loss = hint_loss, alpha: float = 0.0
) -> nn.Module:
    student, teacher = new_student(pair, seed), PLACEBOS.get(arm, lambda seed: shipped())(seed)
    layer = "teacher.relu3" if isinstance(teacher, Misled) else "relu3"
    term = FeatureTerm(PAIRS[pair]["layer"], layer, loss, regressor=new_regressor(pair, arm, seed))
    term = term._replace(weight=weight_for(ratio, new_student(pair, seed), teacher, term))
    distill(student, teacher, few(), alpha=alpha, features=[term], seed=seed, progress=False, **TRAINING)
    return student


def noisy(pair: str, seed: int, deviation: float, *, alpha: float) -> nn.Module:
    student = new_student(pair, seed)

    def augment(images: Tensor) -> Tensor:
        return images + deviation * torch.randn_like(images)

    distill(student, shipped(), few(), alpha=alpha, augment=augment, seed=seed, progress=False, **TRAINING)
    return student


def plain(pair: str, seed: int, *, temperature: float | None = None, **options: Any) -> nn.Module:
    student = new_student(pair, seed)
    options = TRAINING | options | {"seed": seed, "progress": False}
    if temperature is None:
        fit(student, few(), **options)
    else:
        distill(student, shipped(), few(), temperature=temperature, alpha=0.9, **options)
    return student


def tries(pair: str, arm: str, seed: int) -> dict[float, Callable[[], nn.Module]]:
    if arm == "labels":
        return {rate: partial(plain, pair, seed, learning_rate=rate) for rate in (2e-3, 4e-3, 8e-3)}
    if arm == "logits":
        return {t: partial(plain, pair, seed, temperature=t) for t in (2.0, 4.0, 10.0)}
    if arm in NOISY:
        return {deviation: partial(noisy, pair, seed, deviation, alpha=NOISY[arm]) for deviation in (0.05, 0.1, 0.2)}
    if arm == BEST:
        name = best(pair)
        return {r: partial(with_features, pair, name, seed, r, loss=FEATURES[name], alpha=0.9) for r in RATIOS}
    return {r: partial(with_features, pair, arm, seed, r, loss=FEATURES.get(arm, hint_loss)) for r in RATIOS}


def best(pair: str) -> str:
    """The feature loss with the highest mean accuracy on validation."""
    found = [record for record in store.load(RESULTS)["records"] if record["pair"] == pair]
    return max(FEATURES, key=lambda arm: sum(record["validation"] for record in found if record["arm"] == arm))


def measure(pair: str, arm: str, seed: int) -> dict[str, Any]:
    """Three students; the one that is best on validation is reported."""
    trained = ((tried, train()) for tried, train in tries(pair, arm, seed).items())
    record, student = store.best_of(trained, digits().validation)
    test, logits = digits().test, predict(student, digits().test.images)
    with (
        outputs_of(student, [PAIRS[pair]["layer"]]) as of_student,
        outputs_of(shipped(), ["relu3"]) as of_teacher,
        torch.no_grad(),
    ):
        student(test.images), shipped()(test.images)
    result = evaluate(student, test)
    record |= {
        "test": result.accuracy,
        "test_cross_entropy": result.cross_entropy,
        "agreement": agreement(logits, predict(shipped(), test.images)),
        "cka": round(cka(of_student[PAIRS[pair]["layer"]], of_teacher["relu3"], debiased=True), 6),
    }
    return record | ({"feature loss": best(pair)} if arm == BEST else {})


def main() -> None:
    torch.set_num_threads(1)
    for arms in (ARMS, [BEST]):
        keys = [{"pair": pair, "arm": arm, "seed": seed} for seed in SEEDS for pair in PAIRS for arm in arms]
        store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
