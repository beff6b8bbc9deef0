"""A network that meets tasks one after another, and what it may keep of them: shared by the jobs of notebook 16."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data import Split
from kdcourse.losses import kd_loss
from kdcourse.replay import BalancedBuffer, Reservoir, herding
from kdcourse.seeds import seeded

STEPS, ROWS, TEMPERATURE = 100, 64, 2.0


class Herded:
    """iCaRL's exemplars: of each class the first of those that herding chose, as many as there is room for."""

    def __init__(self, size: int) -> None:
        self.size, self.classes = size, dict[int, tuple[Tensor, ...]]()

    def add(self, features: Tensor, *fields: Tensor) -> None:
        for c in fields[1].unique().tolist():
            rows = (fields[1] == c).nonzero().flatten()
            rows = rows[herding(features[rows], min(self.size, len(rows)))]
            self.classes[c] = tuple(field[rows] for field in fields)
        room = self.size // len(self.classes)
        self.classes = {c: tuple(field[:room] for field in kept) for c, kept in self.classes.items()}

    def contents(self) -> tuple[Tensor, ...]:
        return tuple(torch.cat(parts) for parts in zip(*self.classes.values(), strict=True))

    def __len__(self) -> int:
        return sum(len(kept[0]) for kept in self.classes.values())

    def sample(self, count: int) -> tuple[Tensor, ...]:
        rows = torch.randperm(len(self))[:count]
        return tuple(field[rows] for field in self.contents())


def memory_of(way: dict[str, Any], size: int, seed: int) -> Any:
    """An empty memory of ``size`` bytes."""
    images = size // (784 + way.get("labels", False) + 40 * way.get("logits", False))
    match way.get("memory", "none"):
        case "reservoir":
            return Reservoir(images, seed=seed)
        case "balanced":
            return BalancedBuffer(images, seed=seed)
        case "herded":
            return Herded(images)
        case "everything":
            return Reservoir(100_000, seed=seed)
    return Reservoir(0)


def placebo(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """Logits of another image of the same class; or "permuted", all but the label's own in random order."""
    logits = logits.clone()
    if kind == "shuffled":
        for c in labels.unique():
            rows = (labels == c).nonzero().flatten()
            logits[rows] = logits[rows[torch.randperm(len(rows))]]
    else:
        others = torch.arange(logits.shape[1]) != labels[:, None]
        rest = logits[others].reshape(len(logits), -1)
        logits[others] = rest.gather(1, torch.rand_like(rest).argsort(dim=1)).flatten()
    return logits


def cross_entropy(logits: Tensor, labels: Tensor, columns: list[int]) -> Tensor:
    """Among the classes of ``columns`` alone."""
    place = torch.full((logits.shape[1],), -100)
    place[columns] = torch.arange(len(columns))
    return F.cross_entropy(logits[:, columns], place[labels])


class Learner:
    """A network that meets tasks one after another, in the way of its arm."""

    def __init__(
        self,
        network: nn.Sequential,
        way: dict[str, Any],
        size: int,
        seed: int,
        *,
        steps: int = STEPS,
        rows: int = ROWS,
        **settings: float,
    ) -> None:
        self.network, self.way, self.settings = network, way, settings
        self.per_task, self.rows, self.half = steps, rows, rows // 2
        self.start, self.seen, self.met = copy.deepcopy(network), list[int](), 0
        self.never_trained = copy.deepcopy(network)
        with seeded(50 + seed):
            self.never_trained.apply(lambda part: part.reset_parameters() if isinstance(part, nn.Linear) else None)
        self.memory = memory_of(way, size, seed)

    def meet(self, task: Split, classes: list[int]) -> None:
        """Learn one task; an arm that starts again learns it from memory."""
        teacher = partial(self.old_logits, copy.deepcopy(self.network), list(self.seen))
        self.met, self.seen = self.met + 1, self.seen + [c for c in classes if c not in self.seen]
        if self.way.get("again"):
            self.offer(task)
            self.network = copy.deepcopy(self.start)
            self.steps(self.met * self.per_task, self.loss_on_memory)
        else:
            own = classes if self.way.get("own") else self.seen
            self.steps(self.per_task, partial(self.loss, task, own, teacher if self.met > 1 else None))
            self.offer(task)

    def steps(self, count: int, loss: Callable[[], Tensor]) -> None:
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.settings["learning_rate"])
        for _ in range(count):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    def loss(self, task: Split, columns: list[int], teacher: Callable[[Tensor], Tensor] | None) -> Tensor:
        """Cross-entropy on random images of the task, and what the arm adds to it."""
        weights, replays = self.settings, len(self.memory) > 0
        rows = torch.randint(len(task.labels), (self.half if replays else self.rows,))
        images, labels = task.images[rows], task.labels[rows]
        if replays:
            old_images, old_labels, old_logits = self.memory.sample(min(self.half, len(self.memory)))
            images = torch.cat([images, old_images])
        logits = self.network(images)
        new, old = logits[: len(rows)], logits[len(rows) :]
        total = cross_entropy(new, labels, columns)
        if replays and self.way.get("labels"):
            beta = weights.get("beta", 0.5 if self.way.get("logits") else 1.0)
            total = total + beta * cross_entropy(old, old_labels, columns)
        if replays and self.way.get("logits"):
            total = total + weights["alpha"] * F.mse_loss(old, old_logits)
        if teacher and "old" in self.way:
            total = total + weights["weight"] * self.distillation(logits, *teacher(images))
        return total

    def distillation(self, logits: Tensor, soft: Tensor, columns: list[int]) -> Tensor:
        return kd_loss(logits[:, columns], soft[:, columns], temperature=TEMPERATURE, validate=False)

    @torch.no_grad()
    def old_logits(self, old: nn.Module, columns: list[int], images: Tensor) -> tuple[Tensor, list[int]]:
        """What the old network says, and of which classes; or what a placebo says in its place."""
        if self.way.get("all"):
            return old(images), list(range(10))
        soft = (self.never_trained if self.way["old"] == "never trained" else old)(images)
        if self.way["old"] == "uniform":
            soft = torch.zeros_like(soft)
        if self.way["old"] == "permuted":
            soft[:, columns] = soft[:, columns[1:] + columns[:1]]
        if self.way.get("zero"):
            soft[:, [c for c in self.seen if c not in columns]] = -torch.inf
            return soft, self.seen
        return soft, columns

    def loss_on_memory(self) -> Tensor:
        images, labels, _ = self.memory.sample(min(self.rows, len(self.memory)))
        return cross_entropy(self.network(images), labels, self.seen)

    @torch.no_grad()
    def offer(self, task: Split) -> None:
        """Show every image of a task to the memory, once."""
        if self.way.get("memory") == "herded":
            self.memory.add(self.features(task.images), *task, self.network(task.images))
        elif "memory" in self.way:
            order = torch.randperm(len(task.labels))
            images, labels = task.images[order], task.labels[order]
            logits = self.network(images)
            if "placebo" in self.way:
                logits = placebo(logits, labels, self.way["placebo"])
            self.memory.add(images, labels, logits)

    def features(self, images: Tensor) -> Tensor:
        """What the last layer is given."""
        return self.network[:-1](images)

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Logits; or with nearest means minus the distance from each class's."""
        if not self.way.get("nearest"):
            return self.network(images)
        exemplars, labels, _ = self.memory.contents()
        known = labels.unique()
        found = torch.full((len(images), 10), -torch.inf)
        kept = self.features(exemplars)
        means = torch.stack([kept[labels == c].mean(dim=0) for c in known])
        found[:, known] = -torch.cdist(self.features(images), means)
        return found
