"""What the jobs of notebook 17 share: windows of the speeches, targets for them, and how a student is judged.

A window has 129 characters: a student reads the first 128 and predicts the last 128. All arms learn from the same
windows, drawn once from the training speeches; a seed gives the student's initial weights and the order of the windows.
The teacher's logits on them are computed once and kept in half precision; its time is counted in `seconds_per_step`.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.language import Decoder, generate
from kdcourse.losses import kd_loss
from kdcourse.metrics import expected_calibration_error
from kdcourse.models import language_teacher
from kdcourse.seeds import seeded
from kdcourse.text import Vocabulary, load_speeches
from kdcourse.training import fit

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

SEEDS, TRYING = range(5), 100  # the seeds that are reported, and the one on which the learning rate is chosen
RATES = (1.2e-2, 2.4e-2, 4.8e-2)
WINDOW, BATCH, PROMPT = 128, 16, 32
TRAINING: dict[str, Any] = {"epochs": 1, "weight_decay": 0.01, "clip_norm": 1.0, "progress": False}
JUDGED = {"windows": 512, "scored": "the last 64 characters of each", "own texts": 128, "prompt": PROMPT}
RECIPE: dict[str, Any] = {
    "window": WINDOW,
    "batch": BATCH,
    "training": TRAINING,
    "tries": {"learning_rate": RATES, "on": f"validation, of a student with seed {TRYING}"},
    "judged": JUDGED,
}


class Batch(NamedTuple):
    """Tokens (N, 128) that are read, those that follow them, and a teacher's logits (N, 128, V), if there is one."""

    read: Tensor
    following: Tensor
    soft: Tensor | None


@cache
def teacher() -> tuple[Decoder, Vocabulary]:
    """The stored teacher and its vocabulary."""
    return language_teacher()


@cache
def tokens(split: str) -> Tensor:
    """All speeches of a split, one after another."""
    return teacher()[1].encode("\n".join(speech.text for speech in getattr(load_speeches(), split)))


def windows(split: str, count: int, *, first: int = 0) -> Tensor:
    """``count`` windows of a split (count, 129) that do not overlap, in an order drawn once, from number ``first``."""
    text = tokens(split)
    with seeded(0):
        starts = WINDOW * torch.randperm((len(text) - 1) // WINDOW)[first : first + count]
    if len(starts) < count:
        raise ValueError(f"the {split} speeches have no {first + count} windows")
    return text[starts[:, None] + torch.arange(WINDOW + 1)]


@torch.no_grad()
def logits_of(network: nn.Module, read: Tensor, *, size: int = 64) -> Tensor:
    """Logits (N, 128, V) in half precision."""
    return torch.cat([network(part).half() for part in read.split(size)])


@cache
def soft_targets(count: int) -> Tensor:
    """The teacher's logits on the first ``count`` training windows."""
    return logits_of(teacher()[0], windows("train", count)[:, :-1])


class Batches:
    """The windows once, then again, in batches: the order of each pass is drawn from ``seed``."""

    def __init__(self, text: Tensor, soft: Tensor | None, *, seed: int) -> None:
        self.text, self.soft, self.seed = text, soft, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Batch]]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            for rows in torch.randperm(len(self.text), generator=generator).split(BATCH):
                soft = None if self.soft is None else self.soft[rows].float()
                batch = Batch(self.text[rows, :-1], self.text[rows, 1:], soft)
                yield batch.read, batch


def labels_loss(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), batch.following.flatten())


def forward_loss(logits: Tensor, batch: Batch) -> Tensor:
    return kd_loss(logits, batch.soft, temperature=1.0)


def trained(
    student: Decoder, batches: Any, loss: Callable[..., Tensor], *, steps: int, rate: float, seed: int
) -> Decoder:
    fit(student, batches, loss=loss, steps_per_epoch=steps, learning_rate=rate, seed=seed, **TRAINING)
    return student.eval()


# --- judging ----------------------------------------------------------------------------------------------------------


@cache
def held_out(split: str) -> tuple[Tensor, Tensor]:
    """Windows of a split, and the teacher's logits on them."""
    found = windows(split, JUDGED["windows"])
    return found, logits_of(teacher()[0], found[:, :-1])


def bits(nats: Tensor) -> float:
    return nats.mean().item() / math.log(2)


def divergence(student: Tensor, teacher: Tensor) -> float:
    """KL(teacher ‖ student) per character in bits, from logits."""
    log_p, log_q = teacher.double().log_softmax(-1), student.double().log_softmax(-1)
    return bits((log_p.exp() * (log_p - log_q)).sum(-1))


def on_own_text(student: Decoder, seed: int) -> dict[str, float]:
    """What the student writes after 128 prompts from the test speeches, and how far it is from the teacher there."""
    text, known = held_out("test")
    count, network = JUDGED["own texts"], teacher()[0]
    generator = torch.Generator().manual_seed(seed)
    own = generate(student, text[:count, :PROMPT], length=WINDOW + 1 - PROMPT, generator=generator)
    of_student, of_teacher = (logits_of(each, own[:, :-1])[:, PROMPT - 1 :] for each in (student, network))
    written = own[:, PROMPT:].flatten()
    cross = [F.cross_entropy(each.double().flatten(0, 1), written) for each in (of_student, of_teacher)]
    on_text = logits_of(student, text[:count, :-1])[:, PROMPT - 1 :]
    return {
        "kl_own": divergence(of_student, of_teacher),
        "kl_same_prompts": divergence(on_text, known[:count, PROMPT - 1 :]),
        "own_bits": bits(cross[0]),
        "own_bits_of_teacher": bits(cross[1]),
    }


def judged(student: Decoder, seed: int) -> dict[str, float]:
    """Bits per character on validation and test; on test also divergence from the teacher and calibration."""
    found = {}
    for split in ("validation", "test"):
        text, known = held_out(split)
        logits, known = (each[:, WINDOW // 2 :] for each in (logits_of(student, text[:, :-1]), known))
        following = text[:, 1 + WINDOW // 2 :].flatten()
        found[split] = bits(F.cross_entropy(logits.double().flatten(0, 1), following))
    flat = logits.float().flatten(0, 1)
    found |= {"kl_text": divergence(logits, known), "ece": expected_calibration_error(flat, following)}
    return found | on_own_text(student, seed)


def seconds_per_step(student: Decoder, *, steps: int = 12) -> dict[str, float]:
    """Processor time of a step on labels, of a distilled one, and of the teacher's forward pass: the median of each."""
    text = windows("train", BATCH)
    optimizer = torch.optim.AdamW(student.parameters())
    found: dict[str, list[float]] = {"labels": [], "distilled": [], "teacher": []}
    for _ in range(steps):
        begin = time.process_time()
        soft = logits_of(teacher()[0], text[:, :-1]).float()
        found["teacher"].append(time.process_time() - begin)
        for name, loss in (("labels", labels_loss), ("distilled", forward_loss)):
            begin = time.process_time()
            value = loss(student(text[:, :-1]), Batch(text[:, :-1], text[:, 1:], soft))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            found[name].append(time.process_time() - begin)
    return {name: sorted(times)[len(times) // 2] for name, times in found.items()}


# --- tries and seeds --------------------------------------------------------------------------------------------------


def wanted(arms: list[dict[str, Any]], rates: tuple[float, ...] = RATES) -> list[dict[str, Any]]:
    """The tries of each arm's learning rate, then the seeds, each of all arms."""
    tries = [arm | {"seed": TRYING, "rate": rate} for arm in arms for rate in rates]
    return tries + [arm | {"seed": seed} for seed in SEEDS for arm in arms]


def chosen_rate(path: Path, arm: dict[str, Any]) -> float:
    """The rate with the fewest bits on validation; the first of equals."""
    tried = arm | {"seed": TRYING}
    tries = [record for record in store.load(path)["records"] if tried.items() <= record.items()]
    return float(min(tries, key=lambda record: record["validation"])["rate"])
