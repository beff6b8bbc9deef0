"""The comparisons of notebook 17 over sizes: students of the speeches' teacher, with labels alone and distilled.

Every student learns from the same number of characters; "equal time" trains on labels for as long as the distilled
student and its teacher's forward pass took together, on fresh text as far as there is any. The controls have another
teacher: counts of up to five characters, or how frequent each character is.
"""

import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdcourse.language import Decoder
from kdcourse.metrics import count_parameters

sys.path.insert(0, str(Path(__file__).resolve().parent))
import speech  # noqa: E402 (lies beside this file)
import store  # noqa: E402
from ngrams import NGrams  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SIZES = {"middle": {"width": 60, "layers": 2}, "small": {"width": 32, "layers": 2}, "large": {"width": 60, "layers": 4}}
STEPS = 600
TIMES = {"middle": 3, "small": 5, "large": 2}  # of the labels' steps: what "equal time" gets, rounded up
SMOOTHING, ORDER = 0.1, 5
ARMS = [
    *[{"size": "middle", "arm": arm} for arm in ("labels only", "distilled")],
    {"size": "middle", "arm": "labels only, equal time"},
    *[{"size": "small", "arm": arm} for arm in ("labels only", "distilled")],
    *[{"size": "middle", "arm": arm} for arm in ("n-gram teacher", "smoothed unigram", "labels only, another order")],
    *[{"size": "large", "arm": arm} for arm in ("labels only", "distilled")],
    *[{"size": size, "arm": "labels only, equal time"} for size in ("small", "large")],
]
RECIPE: dict[str, Any] = {
    **speech.RECIPE,
    "sizes": SIZES,
    "steps": STEPS,
    "steps of equal time": {size: STEPS * times for size, times in TIMES.items()},
    "distilled": "T = 1, no labels",
    "n-gram teacher": f"interpolated by Witten and Bell, up to {ORDER} characters, counted on all training speeches",
    "smoothed unigram": f"labels with weight {1 - SMOOTHING}, the frequencies of the characters with {SMOOTHING}",
}
POOL = STEPS * speech.BATCH


def network(size: str, seed: int) -> Decoder:
    return Decoder(len(speech.teacher()[1]), **SIZES[size], heads=2, context=speech.WINDOW + 1, seed=seed)


@cache
def counts() -> NGrams:
    return NGrams(speech.tokens("train"), vocabulary=len(speech.teacher()[1]), order=ORDER)


def unigram_loss(logits: Tensor, batch: speech.Batch) -> Tensor:
    log_q = logits.log_softmax(dim=-1)
    return (1 - SMOOTHING) * speech.labels_loss(logits, batch) - SMOOTHING * (log_q @ counts().unigram()).mean()


def trained(size: str, arm: str, seed: int, rate: float) -> Decoder:
    text, soft, loss, steps, order = speech.windows("train", POOL), None, speech.labels_loss, STEPS, seed
    if arm == "distilled":
        soft, loss = speech.soft_targets(POOL), speech.forward_loss
    elif arm == "n-gram teacher":
        soft, loss = counted(POOL), speech.forward_loss
    elif arm == "smoothed unigram":
        loss = unigram_loss
    elif arm == "labels only, another order":
        order = seed + 1000
    elif arm == "labels only, equal time":
        steps *= TIMES[size]
        text = speech.windows("train", min(POOL * TIMES[size], (len(speech.tokens("train")) - 1) // speech.WINDOW))
    batches = speech.Batches(text, soft, seed=order)
    return speech.trained(network(size, seed), batches, loss, steps=steps, rate=rate, seed=seed)


@cache
def counted(count: int) -> Tensor:
    """The n-gram teacher's log-probabilities on the first training windows."""
    return torch.cat([counts().log_probs(part).half() for part in speech.windows("train", count)[:, :-1].split(64)])


def measure(size: str, arm: str, seed: int, rate: float | None = None) -> dict[str, Any]:
    """Train one student and judge it; a seed that is reported takes the rate that was better in the tries."""
    used = speech.chosen_rate(RESULTS, {"size": size, "arm": arm}) if rate is None else rate
    return {"used": used} | speech.judged(trained(size, arm, seed, used), seed)


def of_teacher(size: str) -> dict[str, Any]:
    """Weights and processor time of a size, beside the teacher's; with the first size what the teachers score."""
    student, large = network(size, 0), speech.teacher()[0]
    found: dict[str, Any] = {"weights": count_parameters(student), "teacher_weights": count_parameters(large)}
    found |= {"seconds_per_step": speech.seconds_per_step(student)}
    if size == next(iter(SIZES)):
        found["teacher"] = speech.judged(large, 0)
        found["n-gram teacher"] = counts().bits(speech.held_out("test")[0], first=1 + speech.WINDOW // 2)
    return found


def wanted() -> list[dict[str, Any]]:
    """The comparison at equal text first."""
    return speech.wanted(ARMS[:2]) + [key for arm in ARMS[2:] for key in speech.wanted([arm])]


def main() -> None:
    torch.set_num_threads(1)
    for size in SIZES:
        store.resume(RESULTS, {"what": "time", "size": size}, partial(of_teacher, size), recipe=RECIPE)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
