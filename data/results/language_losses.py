"""The comparisons of notebook 17 over losses: a small student learns the same number of characters in many ways.

What is learned from a teacher that kept only four of its probabilities, or four draws; from texts that the teacher has
written, or the student itself; and, for a student with the teacher's width, from a start in the teacher's layers.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.language import Decoder, generate
from kdcourse.losses import reverse_kd_loss
from kdcourse.losses.sequences import generalized_js_loss, top_k_kd_loss

sys.path.insert(0, str(Path(__file__).resolve().parent))
import speech  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
WIDTH, LAYERS, KEPT_LAYERS = 32, 2, (0, 2)
STEPS, START_STEPS, K, AHEAD = 400, 200, 4, 16
START_RATES = (1e-3, 4e-3, 1.6e-2)
START = 16  # characters of a speech that a written text begins with
RECIPE: dict[str, Any] = {
    **speech.RECIPE,
    "student": {"width": WIDTH, "layers": LAYERS},
    "steps": STEPS,
    "k": K,
    "written texts": f"begin with {START} characters of a training window, which are not learned",
    "own texts": f"half of each batch, written by the student up to {AHEAD} steps before",
    "from the teacher's layers": {"layers": KEPT_LAYERS, "steps": START_STEPS, "tries": START_RATES},
}
POOL = STEPS * speech.BATCH
Loss = Callable[[Tensor, speech.Batch], Tensor]


def top(soft: Tensor) -> tuple[Tensor, Tensor]:
    """What a teacher that keeps K tokens has stored."""
    kept = soft.log_softmax(dim=-1).topk(K)
    return kept.values, kept.indices


def raw_top_loss(logits: Tensor, batch: speech.Batch) -> Tensor:
    """Σ p ln(p / q) over the tokens kept, as if they were all."""
    values, indices = top(batch.soft)
    return (values.exp() * (values - logits.log_softmax(dim=-1).gather(-1, indices))).sum(dim=-1).mean()


def drawn_loss(logits: Tensor, batch: speech.Batch, *, draws: int) -> Tensor:
    """Cross-entropy with tokens that the teacher draws at each position of the text."""
    found = torch.multinomial(batch.soft.flatten(0, 1).softmax(dim=-1), draws, replacement=True)
    return -logits.flatten(0, 1).log_softmax(dim=-1).gather(-1, found).mean()


def confidence_loss(logits: Tensor, batch: speech.Batch) -> Tensor:
    """A placebo: of the teacher only its probability of the true character; the rest goes to all others evenly."""
    right = batch.soft.softmax(dim=-1).gather(-1, batch.following.unsqueeze(-1))
    log_q = logits.log_softmax(dim=-1)
    of_right = log_q.gather(-1, batch.following.unsqueeze(-1))
    others = (log_q.sum(dim=-1, keepdim=True) - of_right) / (logits.shape[-1] - 1)
    return -(right * of_right + (1 - right) * others).mean()


def written_loss(logits: Tensor, batch: speech.Batch) -> Tensor:
    """Cross-entropy on a text that was written after its start."""
    return F.cross_entropy(logits[:, START - 1 :].flatten(0, 1), batch.following[:, START - 1 :].flatten())


def half_each(logits: Tensor, batch: speech.Batch) -> Tensor:
    return 0.5 * speech.labels_loss(logits, batch) + 0.5 * speech.forward_loss(logits, batch)


def whole(loss: Callable[..., Tensor], **options: Any) -> Loss:
    return lambda logits, batch: loss(logits, batch.soft, temperature=1.0, **options)


LOSSES: dict[str, Loss] = {
    "labels only": speech.labels_loss,
    "forward KL": speech.forward_loss,
    "reverse KL": whole(reverse_kd_loss),
    **{f"Jensen-Shannon, beta {beta}": whole(generalized_js_loss, beta=beta) for beta in (0.1, 0.5, 0.9)},
    "labels and forward KL": half_each,
    "top 4 and the rest": lambda logits, batch: top_k_kd_loss(logits, *top(batch.soft), temperature=1.0),
    "top 4 renormalised": lambda logits, batch: top_k_kd_loss(logits, *top(batch.soft), temperature=1.0, tail=False),
    "top 4 as if all": raw_top_loss,
    "four draws": partial(drawn_loss, draws=4),
    "one draw": partial(drawn_loss, draws=1),
    "confidence alone": confidence_loss,
    "the teacher's texts": written_loss,
    "half own texts, forward KL": speech.forward_loss,
    "half own texts, reverse KL": whole(reverse_kd_loss),
}
STARTS = [
    f"{start}, {loss}" for start in ("the teacher's layers", "a random start") for loss in ("labels", "distilled")
]


@cache
def written() -> Tensor:
    """Texts of the teacher, one for each window of the pool, (POOL, 129)."""
    generator, starts = torch.Generator().manual_seed(0), speech.windows("train", POOL)[:, :START]
    length = speech.WINDOW + 1 - START
    parts = (generate(speech.teacher()[0], part, length=length, generator=generator) for part in starts.split(400))
    return torch.cat(list(parts))


class OwnTexts:
    """Batches of which the second half was written by the student, after the starts of the windows that it replaces."""

    def __init__(self, student: Decoder, *, seed: int) -> None:
        self.student, self.seed = student, seed
        self.text, self.soft = speech.windows("train", POOL), speech.soft_targets(POOL)

    def __iter__(self) -> Iterator[tuple[Tensor, speech.Batch]]:
        generator, half = torch.Generator().manual_seed(self.seed), speech.BATCH // 2
        while True:
            order = torch.randperm(len(self.text), generator=generator)
            for some in order.split(AHEAD * speech.BATCH):
                replaced = some.reshape(-1, speech.BATCH)[:, half:].flatten()
                length = speech.WINDOW + 1 - START
                own = generate(self.student, self.text[replaced, :START], length=length, generator=generator)
                soft = speech.logits_of(speech.teacher()[0], own[:, :-1])
                for rows, text, of_own in zip(some.split(speech.BATCH), own.split(half), soft.split(half), strict=True):
                    text = torch.cat([self.text[rows[:half]], text])
                    both = torch.cat([self.soft[rows[:half]], of_own]).float()
                    batch = speech.Batch(text[:, :-1], text[:, 1:], both)
                    yield batch.read, batch


def of_teachers_width(start: str, seed: int) -> Decoder:
    """A student of two layers with the teacher's width; perhaps with its embeddings, head and two of its layers."""
    large, vocabulary = speech.teacher()
    width, heads = large.token.embedding_dim, large.blocks[0].heads
    student = Decoder(
        len(vocabulary), width=width, layers=len(KEPT_LAYERS), heads=heads, context=large.context, seed=seed
    )
    if start == "the teacher's layers":
        for name in ("token", "position", "norm", "head"):
            getattr(student, name).load_state_dict(getattr(large, name).state_dict())
        for block, kept in zip(student.blocks, KEPT_LAYERS, strict=True):
            block.load_state_dict(copy.deepcopy(large.blocks[kept].state_dict()))
    return student


def trained(arm: str, seed: int, rate: float) -> Decoder:
    if arm in STARTS:
        start, _, loss = arm.partition(", ")
        text = speech.windows("train", POOL)[: START_STEPS * speech.BATCH]
        batches = speech.Batches(text, speech.soft_targets(POOL) if loss == "distilled" else None, seed=seed)
        chosen = speech.forward_loss if loss == "distilled" else speech.labels_loss
        return speech.trained(of_teachers_width(start, seed), batches, chosen, steps=START_STEPS, rate=rate, seed=seed)
    student = Decoder(len(speech.teacher()[1]), width=WIDTH, layers=LAYERS, context=speech.WINDOW + 1, seed=seed)
    if arm.startswith("half own texts"):
        batches: Any = OwnTexts(student, seed=seed)
    elif arm == "the teacher's texts":
        batches = speech.Batches(written(), None, seed=seed)
    else:
        batches = speech.Batches(speech.windows("train", POOL), speech.soft_targets(POOL), seed=seed)
    return speech.trained(student, batches, LOSSES[arm], steps=STEPS, rate=rate, seed=seed)


def measure(arm: str, seed: int, rate: float | None = None) -> dict[str, Any]:
    """Train one student and judge it; a seed that is reported takes the rate that was better in the tries."""
    used = speech.chosen_rate(RESULTS, {"arm": arm}) if rate is None else rate
    return {"used": used} | speech.judged(trained(arm, seed, used), seed)


def wanted() -> list[dict[str, Any]]:
    arms = [{"arm": arm} for arm in [*LOSSES, *STARTS]]
    losses = [key for arm in arms[: len(LOSSES)] for key in speech.wanted([arm])]
    return losses + speech.wanted(arms[len(LOSSES) :], START_RATES)


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
