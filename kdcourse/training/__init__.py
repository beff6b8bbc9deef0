"""Training loops that a claim can rest on: seeded, the same with labels and with a teacher, which is left alone.

They take a `kdcourse.data.Split`, a ``DataLoader`` or any other re-iterable of batches (`kdcourse.training.batches`
says in which forms), and logits of any rank, classes last. What they can be told is in `Options`.
"""

from .fitting import distill, fit
from .networks import Scores, evaluate, frozen, predict
from .options import Augment, History, Options
from .schedules import Schedule, constant, cosine

__all__ = [
    "Augment",
    "History",
    "Options",
    "Schedule",
    "Scores",
    "constant",
    "cosine",
    "distill",
    "evaluate",
    "fit",
    "frozen",
    "predict",
]
