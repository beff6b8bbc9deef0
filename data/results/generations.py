"""The comparisons of notebook 12 among networks of one kind: born-again, mutual and ensemble learning on 500 labels.

Five paired seeds an arm. Every method was tuned with four tries; the best on validation, mean of the five seeds, is
taken, and stored with each record. Network k of a seed starts from the same weights in every arm.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data import Split, load_mnist
from kdcourse.losses import kd_loss, label_smoothing_loss
from kdcourse.metrics import accuracy, agreement, expected_calibration_error
from kdcourse.models import mlp
from kdcourse.seeds import seeded
from kdcourse.training import cosine, distill, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
EPOCHS = 60
MEMBERS = 5
SOFT = [{"temperature": t, "alpha": a} for t in (4.0, 10.0) for a in (0.5, 1.0)]
TRIES: dict[str, list[dict[str, float]]] = {
    "labels": [{"learning_rate": r, "weight_decay": w} for r in (2e-3, 4e-3) for w in (0.01, 0.3)],
    "label smoothing": [{"smoothing": s} for s in (0.1, 0.2, 0.4, 0.6)],
    "born-again": SOFT,
    "wrong classes permuted": SOFT,
    "weighted by confidence": [{"temperature": t} for t in (1.0, 4.0, 10.0, 20.0)],
    "mutual": [{"temperature": t, "alpha": a} for t in (1.0, 4.0) for a in (0.5, 0.9)],
    "student of 5, probabilities": SOFT,
    "student of 5, logits": SOFT,
}
RECIPE: dict[str, Any] = {
    "network": "mlp((64,))",
    "data": "the first 50 training images of each class; validation: 500 images, test: 1,000",
    "training": {"epochs": EPOCHS, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 0.01},
    "tries": TRIES,
    "all 3,500 images": {"epochs": 9, "labels": "none"},
}

digits = cache(load_mnist)


@cache
def few() -> Split:
    return store.first_of_each(digits().train, 50)


def fresh(seed: int, k: int) -> tuple[nn.Module, dict[str, Any]]:
    """Network k of a seed, untrained, and the options of its training."""
    return mlp((64,), seed=100 * k + seed), {"epochs": EPOCHS, "seed": 100 * k + seed, "progress": False}


def chosen(method: str) -> dict[str, float]:
    """The best of a method's four tries on validation, mean over the seeds."""
    records = store.load(RESULTS)["records"]
    found = [sum(r["validation"] for r in records if r["arm"] == f"sweep {method}" and r["number"] == number)
             for number in range(4)]  # fmt: skip
    return TRIES[method][found.index(max(found))]


def labels(seed: int, k: int = 0, *, times: float = 1, **setting: float) -> nn.Module:
    network, options = fresh(seed, k)
    fit(network, few(), **options | {"epochs": round(times * EPOCHS)} | setting)
    return network


@cache
def member(seed: int, k: int) -> nn.Module:
    return labels(seed, k, **chosen("labels"))


def smoothed(seed: int, *, smoothing: float) -> nn.Module:
    network, options = fresh(seed, 1)
    fit(network, few(), loss=partial(label_smoothing_loss, smoothing=smoothing), **options)
    return network


def taught(seed: int, k: int, teacher: nn.Module | Tensor, **setting: float) -> nn.Module:
    network, options = fresh(seed, k)
    distill(network, teacher, few(), **options | setting)
    return network


@cache
def generation(seed: int, k: int) -> nn.Module:
    if k == 0:
        return member(seed, 0)
    return taught(seed, k, generation(seed, k - 1), **chosen("born-again"))


def permuted(seed: int, **setting: float) -> nn.Module:
    """Born again from a teacher whose logits of all classes but its favourite are shuffled, image by image."""
    logits = predict(member(seed, 0), few().images)
    best = logits.argmax(dim=1)
    with seeded(seed):
        for row, favourite in zip(logits, best, strict=True):
            others = torch.arange(10) != favourite
            row[others] = row[others][torch.randperm(9)]
    return taught(seed, 1, logits, **setting)


def weighted(seed: int, *, temperature: float) -> nn.Module:
    """The labels alone, each image weighted by the largest probability of its teacher."""

    def loss(logits: Tensor, soft: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
        weights = (soft / temperature).softmax(dim=1).amax(dim=1)
        return (weights * F.cross_entropy(logits, labels, reduction="none")).sum() / weights.sum()

    network, options = fresh(seed, 1)
    distill(network, member(seed, 0), few(), loss=loss, temperature=temperature, **options)
    return network


@cache
def mutual(seed: int, *, temperature: float, alpha: float) -> list[nn.Module]:
    """Two networks that learn from the labels and from one another, on the same batches."""
    pair = [fresh(seed, k)[0].train() for k in (0, 1)]
    optimizers = [torch.optim.AdamW(network.parameters(), weight_decay=0.01) for network in pair]
    images, answers = few()
    with seeded(seed):
        for epoch in range(EPOCHS):
            batches = torch.randperm(len(images)).split(128)
            for number, rows in enumerate(batches):
                rate = 2e-3 * cosine((epoch * len(batches) + number) / (EPOCHS * len(batches)))
                logits = [network(images[rows]) for network in pair]
                for own, peer, optimizer in zip(logits, logits[::-1], optimizers, strict=True):
                    hard = F.cross_entropy(own, answers[rows])
                    loss = (1 - alpha) * hard + alpha * kd_loss(own, peer.detach(), temperature=temperature)
                    optimizer.param_groups[0]["lr"] = rate
                    optimizer.zero_grad()
                    loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
    return [network.eval() for network in pair]


def members(seed: int, count: int) -> list[nn.Module]:
    return [member(seed, k) for k in range(count)]


def best_member(seed: int, count: int) -> nn.Module:
    """The one of several networks that is best on validation."""
    images, answers = digits().validation
    return max(members(seed, count), key=lambda network: accuracy(predict(network, images), answers))


def together(networks: list[nn.Module], images: Tensor, *, temperature: float = 1.0, average: str = "probabilities"):
    """Logits whose softmax at ``temperature`` is the networks' mean soft target."""
    logits = torch.stack([predict(network, images) for network in networks])
    if average == "logits":
        return logits.mean(dim=0)
    log_probabilities = (logits / temperature).log_softmax(dim=2)
    return temperature * (log_probabilities.logsumexp(dim=0) - torch.tensor(len(networks)).log())


def student_of(seed: int, average: str, **setting: float) -> nn.Module:
    target = together(members(seed, MEMBERS), few().images, temperature=setting["temperature"], average=average)
    return taught(seed, MEMBERS, target, **setting)


def without_labels(seed: int, count: int) -> nn.Module:
    """A student of the mean probabilities of the first ``count`` networks, on all training images, no labels."""
    train, soft = digits().train, chosen("student of 5, probabilities")["temperature"]
    target = together(members(seed, count), train.images, temperature=soft)
    network, options = fresh(seed, MEMBERS)
    distill(network, target, train, temperature=soft, alpha=1.0, **options | {"epochs": 9})
    return network


METHODS: dict[str, Callable[..., nn.Module | list[nn.Module]]] = {
    "labels": labels,
    "label smoothing": smoothed,
    "born-again": lambda seed, **setting: taught(seed, 1, member(seed, 0), **setting),
    "wrong classes permuted": permuted,
    "weighted by confidence": weighted,
    "mutual": lambda seed, **setting: mutual(seed, **setting)[0],
    "student of 5, probabilities": partial(student_of, average="probabilities"),
    "student of 5, logits": partial(student_of, average="logits"),
}
ARMS: dict[str, Callable[[int], nn.Module | list[nn.Module]]] = {
    "labels": lambda seed: member(seed, 0),
    "labels, another seed": lambda seed: member(seed, 1),
    "labels, the others' rate": lambda seed: labels(seed, 1),
    "labels, half the epochs": lambda seed: labels(seed, 1, times=0.5, **chosen("labels")),
    "labels, best of 2": lambda seed: best_member(seed, 2),
    "labels, best of 4": lambda seed: best_member(seed, 4),
    "best of 5": lambda seed: best_member(seed, 5),
    "born again of the best of 5": lambda seed: taught(seed, MEMBERS, best_member(seed, 5), **chosen("born-again")),
    "mutual, the two together": lambda seed: mutual(seed, **chosen("mutual")),
    "generations 0 to 3 together": lambda seed: [generation(seed, k) for k in range(4)],
    "student of 5, all images": partial(without_labels, count=5),
    "student of 1, all images": partial(without_labels, count=1),
}
for times in (2, 4, 6):
    ARMS[f"labels, {times} times the epochs"] = lambda seed, times=times: labels(seed, times=times, **chosen("labels"))
for count in (2, 4, 5):
    ARMS[f"ensemble of {count}"] = partial(members, count=count)
for count in (2, 5):
    ARMS[f"ensemble of {count}, the others' rate"] = lambda seed, count=count: [labels(seed, k) for k in range(count)]
for k in (1, 2, 3):
    ARMS[f"generation {k}"] = partial(generation, k=k)
for method in list(TRIES)[1:2] + list(TRIES)[3:]:
    ARMS[method] = lambda seed, method=method: METHODS[method](seed, **chosen(method))


def attempt(arm: str, number: int, seed: int) -> dict[str, Any]:
    """One try of a method's tuning, measured on validation alone."""
    method = arm.removeprefix("sweep ")
    network = METHODS[method](seed, **TRIES[method][number])
    return {"validation": accuracy(predict(network, digits().validation.images), digits().validation.labels)}


def measure(arm: str, seed: int) -> dict[str, Any]:
    found = ARMS[arm](seed)
    networks = found if isinstance(found, list) else [found]
    images, answers = digits().test
    logits = together(networks, images)
    five = torch.stack([predict(network, images).argmax(dim=1) for network in members(seed, MEMBERS)])
    split = (five != five[0]).any(dim=0)  # the five networks do not all predict the same
    validation = together(networks, digits().validation.images)
    report = {
        "validation": accuracy(validation, digits().validation.labels),
        "test": accuracy(logits, answers),
        "test_cross_entropy": F.cross_entropy(logits, answers).item(),
        "test_ece": expected_calibration_error(logits, answers),
        "agreement with the five": agreement(logits, together(members(seed, MEMBERS), images)),
        "where the five disagree": accuracy(logits[split], answers[split]),
        "disagreements": int(split.sum()),
    }
    return report | ({"setting": chosen(arm)} if arm in TRIES else {})


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # gradients of almost 0 take five times as long
    for method, tries in TRIES.items():
        keys = [{"arm": f"sweep {method}", "number": n, "seed": s} for n in range(len(tries)) for s in SEEDS]
        store.resume_all(RESULTS, keys, attempt, recipe=RECIPE)
    store.resume_all(RESULTS, [{"arm": arm, "seed": seed} for arm in ARMS for seed in SEEDS], measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
