"""The comparisons of notebook 15 in which several networks become one: five paired seeds an arm, equal tries.

Along one run: every arm has seven tries, of the learning rate; the notebook takes the one with the best mean validation
accuracy over the seeds. Fine-tunes: four of one pretrained network, at four rates; whatever makes one network of them
may use validation, and the control has the same number of epochs in one run, at the best member's rate. Starts: two
networks trained apart, before and after alignment. Tasks: one scale of five, chosen on validation, for the sum of the
task vectors and for the sum of shuffled ones. The averages' batch norms are reset on the 1,000 training images, those
of the tasks on the images of all tasks.
"""

import copy
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.averaging import align, average_models, barrier, moving_average, reset_batchnorm
from kdcourse.data import Split, load_mnist, random_affine
from kdcourse.domains import load_scikit_digits
from kdcourse.metrics import accuracy
from kdcourse.models import conv_net, mlp
from kdcourse.seeds import seeded
from kdcourse.training import constant, distill, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
EPOCHS, TUNING, DECAY = 30, 15, 0.98
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
MEMBERS = (4e-3, 8e-3, 1.6e-2, 3.2e-2)
SCALES = (0.2, 0.35, 0.5, 0.7, 1.0)
WIDTHS = (32, 128, 512)
RECIPE: dict[str, Any] = {
    "network": "conv_net((8, 16, 24)); where a width is named, mlp((width,))",
    "data": "the first 100 training images of each class; validation: 500 images, test: 1,000",
    "training": {"epochs": EPOCHS, "batch_size": 128, "optimizer": "AdamW", "schedule": "cosine, or constant"},
    "along": {"rates": RATES, "averaged": "after each epoch of the second half", "decay": DECAY},
    "fine-tunes": {
        "pretrained on": "scikit-learn's 1,000 training digits",
        "epochs": TUNING,
        "rates": MEMBERS,
        "augmentation": "random_affine()",
        "student and long run": "the best member's rate",
    },
    "starts": {"widths": WIDTHS, "rate": 3e-3, "points on the line": 11},
    "tasks": {"epochs": TUNING, "rate": 3e-3, "scales": SCALES, "of": ["inverted", "rotated", "mirrored"]},
}

digits = cache(load_mnist)
TASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "inverted": lambda images: 1 - images,
    "rotated": lambda images: images.rot90(1, (2, 3)),
    "mirrored": lambda images: images.flip(3),
}


@cache
def few() -> Split:
    return store.first_of_each(digits().train, 100)


def reset(network: nn.Module, images: Tensor | None = None) -> nn.Module:
    """Batch norms estimated again, on a copy."""
    return reset_batchnorm(copy.deepcopy(network), (few().images if images is None else images).split(250))


def scores(network: nn.Module | Sequence[nn.Module]) -> dict[str, float]:
    """Accuracy on validation and test, and the test loss; of several networks, of their mean probability."""
    networks = [network] if isinstance(network, nn.Module) else network
    found = {}
    for name, split in (("validation", digits().validation), ("test", digits().test)):
        log_p = torch.stack([predict(each, split.images).log_softmax(dim=1) for each in networks]).logsumexp(dim=0)
        found[name] = accuracy(log_p, split.labels)
    log_p = log_p.log_softmax(dim=1)
    return found | {"test_cross_entropy": F.nll_loss(log_p, digits().test.labels).item()}


def best(tries: dict[Any, nn.Module]) -> tuple[Any, nn.Module]:
    """The try that is best on validation, the first of equals."""
    key = max(tries, key=lambda each: scores(tries[each])["validation"])
    return key, tries[key]


# --- along one run ------------------------------------------------------------------------------------------------


@cache
def run(seed: int, rate: float) -> dict[str, nn.Module]:
    """One run at a constant rate, and all that can be averaged along it."""
    network = conv_net((8, 16, 24), seed=seed)
    average, without, kept = copy.deepcopy(network), copy.deepcopy(network), []

    def follow(done: float) -> None:
        moving_average(average, network, decay=DECAY)
        with torch.no_grad():
            for old, new in zip(without.parameters(), network.parameters(), strict=True):
                old.lerp_(new, 1 - DECAY)

    def keep(epoch: int, history: Any) -> None:
        if epoch >= EPOCHS // 2:
            kept.append(copy.deepcopy(network).eval())

    fit(network, few(), epochs=EPOCHS, learning_rate=rate, schedule=constant, seed=seed, before_step=follow,
        on_epoch=keep, progress=False)  # fmt: skip
    follow(1.0)
    swa = average_models(kept)
    stale = copy.deepcopy(swa)
    stale.load_state_dict(swa.state_dict() | {n: b for n, b in network.named_buffers()})
    return {
        "constant rate": network,
        "average of 15 epochs, reset": reset(swa),
        "average of 15 epochs, statistics averaged": swa,
        "average of 15 epochs, statistics of the last": stale,
        "moving average": average.eval(),
        "moving average, reset": reset(average.eval()),
        "moving average, buffers forgotten": without.eval(),
        "last 15 epochs as an ensemble": nn.ModuleList(kept),
    }


@cache
def annealed(seed: int, rate: float, times: int) -> nn.Module:
    network = conv_net((8, 16, 24), seed=seed)
    fit(network, few(), epochs=times * EPOCHS, learning_rate=rate, seed=seed, progress=False)
    return network


ALONG = {"cosine": 1, "cosine, twice the epochs": 2}
AVERAGED = (
    "constant rate", "average of 15 epochs, reset", "average of 15 epochs, statistics averaged",
    "average of 15 epochs, statistics of the last", "moving average", "moving average, reset",
    "moving average, buffers forgotten", "last 15 epochs as an ensemble",
)  # fmt: skip


def along(arm: str, seed: int, rate: float) -> dict[str, Any]:
    network = annealed(seed, rate, ALONG[arm]) if arm in ALONG else run(seed, rate)[arm]
    return scores(list(network) if isinstance(network, nn.ModuleList) else network)


# --- fine-tunes of one network ------------------------------------------------------------------------------------


@cache
def pretrained(seed: int) -> nn.Module:
    network = conv_net((8, 16, 24), seed=seed)
    fit(network, load_scikit_digits().train, epochs=EPOCHS, learning_rate=3e-3, seed=seed, progress=False)
    return network


@cache
def member(seed: int, place: int, times: int = 1) -> nn.Module:
    network = copy.deepcopy(pretrained(seed))
    fit(network, few(), epochs=times * TUNING, learning_rate=MEMBERS[place], augment=random_affine(),
        seed=10 * seed + place, progress=False)  # fmt: skip
    return network


def greedy(networks: Sequence[nn.Module], split: Split) -> tuple[nn.Module, int]:
    """Members from the best to the worst on a split, each kept in the average if that is not worse there for it."""

    def value(network: nn.Module) -> float:
        return accuracy(predict(network, split.images), split.labels)

    order = sorted(networks, key=value, reverse=True)
    kept, soup = order[:1], order[0]
    for each in order[1:]:
        tried = reset(average_models([*kept, each]))
        if value(tried) >= value(soup):
            kept, soup = [*kept, each], tried
    return soup, len(kept)


class Ensemble(nn.Module):
    """Several networks as one: the logarithm of their mean probabilities."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        log_p = torch.stack([network(images).log_softmax(dim=1) for network in self.networks])
        return log_p.logsumexp(dim=0).log_softmax(dim=1)


def student_of(networks: Sequence[nn.Module], seed: int, rate: float) -> nn.Module:
    """One network distilled from the mean probability of several, begun where they began, on augmented images."""
    student = copy.deepcopy(pretrained(seed))
    distill(student, Ensemble(networks), few(), temperature=1.0, alpha=1.0, epochs=TUNING, learning_rate=rate,
            augment=random_affine(), seed=seed, progress=False)  # fmt: skip
    return student


TUNED = (
    "one member", "best member", "average of 4", "average of 4, reset", "greedy average", "greedy, chosen on test",
    "ensemble of 4", "student of the ensemble", "one run of 4 times the epochs",
)  # fmt: skip


def tuned(arm: str, seed: int) -> dict[str, Any]:
    networks = [member(seed, place) for place in range(4)]
    place, chosen = best(dict(enumerate(networks)))
    if arm == "one member":
        each = [scores(network) for network in networks]
        return {name: sum(one[name] for one in each) / 4 for name in each[0]}
    if arm == "greedy average":
        soup, count = greedy(networks, digits().validation)
        return {"members": count} | scores(soup)
    if arm == "greedy, chosen on test":
        soup, count = greedy(networks, digits().test)
        return {"members": count} | scores(soup)
    if arm == "ensemble of 4":
        return scores(networks)
    if arm == "one run of 4 times the epochs":
        return {"rate of the member": MEMBERS[place]} | scores(member(seed, place, 4))
    average = average_models(networks)
    makers: dict[str, Callable[[], nn.Module]] = {
        "best member": lambda: chosen,
        "average of 4": lambda: average,
        "average of 4, reset": lambda: reset(average),
        "student of the ensemble": lambda: student_of(networks, seed, MEMBERS[place]),
    }
    return scores(makers[arm]())


# --- networks from different starts -------------------------------------------------------------------------------


@cache
def started(seed: int, width: int, first: bool) -> nn.Module:
    number = seed if first else 100 + seed
    network = mlp((width,), seed=number) if width else conv_net((8, 16, 24), seed=number)
    fit(network, few(), epochs=EPOCHS, learning_rate=3e-3, seed=number, progress=False)
    return network


def starts(arm: str, width: int, seed: int) -> dict[str, Any]:
    """How far loss and error rise between two networks; width 0 is the convolutional network."""
    first, second = started(seed, width, True), started(seed, width, False)
    if arm.startswith("fine-tunes"):
        first, second = member(seed, 1), member(seed, 2)
    if "aligned" in arm:
        second = align(second, first)
    settled: Callable[[nn.Module], nn.Module] = reset if arm.endswith("reset") else lambda network: network

    def loss(network: nn.Module) -> float:
        return F.cross_entropy(predict(settled(network), few().images), few().labels).item()

    middle = settled(average_models([first, second]))
    return {"barrier": barrier(first, second, loss), "ends": scores(first)["test"] / 2 + scores(second)["test"] / 2,
            "ensemble": scores([first, second])["test"]} | scores(middle)  # fmt: skip


# --- task arithmetic ----------------------------------------------------------------------------------------------


def of_task(name: str, split: Split) -> Split:
    return Split(TASKS[name](split.images), split.labels)


@cache
def specialist(seed: int, name: str) -> nn.Module:
    network = copy.deepcopy(started(seed, 0, True))
    fit(network, of_task(name, few()), epochs=TUNING, learning_rate=3e-3, seed=seed, progress=False)
    return network


def together() -> Split:
    parts = [of_task(name, few()) for name in TASKS]
    return Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def added(seed: int, scale: float, *, shuffled: bool = False) -> nn.Module:
    """The base plus the scaled sum of the task vectors, its batch norms reset on the images of all tasks.

    ``shuffled`` is the placebo: the entries of each tensor of each task vector in a random order.
    """
    base, result = started(seed, 0, True), copy.deepcopy(started(seed, 0, True))
    parameters = dict(result.named_parameters())
    with torch.no_grad(), seeded(seed):
        for name in TASKS:
            for place, theirs in specialist(seed, name).named_parameters():
                change = theirs - base.get_parameter(place)
                if shuffled:
                    change = change.flatten()[torch.randperm(change.numel())].view_as(change)
                parameters[place] += scale * change
    return reset(result, together().images)


def task_scores(network: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {"upright": scores(network)["test"]}
    for which, split in (("validation", digits().validation), ("test", digits().test)):
        each = {n: accuracy(predict(network, TASKS[n](split.images)), split.labels) for n in TASKS}
        found[which] = sum(each.values()) / len(each)
    return found | each


ARITHMETIC = ("base", "base, reset", "own fine-tune", "average", "sum", "sum, shuffled", "trained together")


def tasks(arm: str, seed: int) -> dict[str, Any]:
    base, whole = started(seed, 0, True), together()
    if arm == "own fine-tune":
        each = {name: task_scores(specialist(seed, name)) for name in TASKS}
        own = {name: one[name] for name, one in each.items()}
        return {"test": sum(own.values()) / 3} | own
    if arm.startswith("sum"):
        tries = {scale: task_scores(added(seed, scale, shuffled=arm != "sum")) for scale in SCALES}
        scale = max(tries, key=lambda each: tries[each]["validation"])
        return {"scale": scale} | tries[scale]
    if arm == "trained together":
        network = copy.deepcopy(base)
        fit(network, whole, epochs=TUNING, learning_rate=3e-3, seed=seed, progress=False)
        return task_scores(network)
    return task_scores({"base": lambda: base, "base, reset": lambda: reset(base, whole.images),
                        "average": lambda: added(seed, 1 / 3)}[arm]())  # fmt: skip


def measure(part: str, arm: str, seed: int, width: int = 0, rate: float = 0.0) -> dict[str, Any]:
    if part == "along":
        return along(arm, seed, rate)
    if part == "starts":
        return starts(arm, width, seed)
    return {"fine-tunes": tuned, "tasks": tasks}[part](arm, seed)


def main() -> None:
    torch.set_num_threads(1)
    lines = ["as they are", "aligned"]
    arms: list[dict[str, Any]] = [
        *({"part": "along", "arm": arm, "rate": rate} for rate in RATES for arm in (*ALONG, *AVERAGED)),
        *({"part": "fine-tunes", "arm": arm} for arm in TUNED),
        *({"part": "starts", "arm": arm, "width": width} for width in WIDTHS for arm in lines),
        *({"part": "starts", "arm": arm, "width": 0} for arm in (*lines, *(f"{line}, reset" for line in lines))),
        *({"part": "starts", "arm": arm, "width": 0} for arm in ("fine-tunes", "fine-tunes, reset")),
        *({"part": "tasks", "arm": arm} for arm in ARITHMETIC),
    ]
    keys = [arm | {"seed": seed} for seed in SEEDS for arm in arms]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
