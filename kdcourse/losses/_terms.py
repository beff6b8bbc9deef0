"""What the formulas are made of, position by position: logits (..., C), labels (...), results (...).

Nothing is checked here and nothing depends on the numbers, so that it compiles and vectorises.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def log_p(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """log softmax(logits / T), T a number or a tensor that broadcasts over the leading dimensions."""
    return F.log_softmax(_divided(logits, temperature), dim=-1)


def log_yes_no(logits: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """log σ(z / T) and log(1 - σ(z / T)) of each logit."""
    logits = _divided(logits, temperature)
    return F.logsigmoid(logits), F.logsigmoid(-logits)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) over the last dimension from log-probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def cross_entropy(student: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """-log p(label), or -Σ_c q_c log p_c with q = 1 - smoothing at the label and smoothing / C everywhere on top."""
    if student.ndim > 2:  # cross_entropy would take dimension 1 for the classes
        student, flat = student.reshape(-1, student.shape[-1]), labels.reshape(-1)  # (N, C), (N,)
        return F.cross_entropy(student, flat, reduction="none", label_smoothing=smoothing).reshape(labels.shape)
    return F.cross_entropy(student, labels, reduction="none", label_smoothing=smoothing)


def split_target(logits: Tensor, labels: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (label, not label), shape (..., 2), and of the others among themselves, (..., C).

    The label's own position among the others is 0, for student and teacher, and so adds nothing to their KL.
    """
    logits, index = _divided(logits, temperature), labels.unsqueeze(-1)
    others = logits.scatter(-1, index, -math.inf)
    both = torch.cat([logits.gather(-1, index), others.logsumexp(dim=-1, keepdim=True)], dim=-1)
    return F.log_softmax(both, dim=-1), F.log_softmax(others, dim=-1).scatter(-1, index, 0.0)


def _divided(logits: Tensor, temperature: float | Tensor) -> Tensor:
    if isinstance(temperature, Tensor) and temperature.ndim > 0:
        temperature = temperature.unsqueeze(-1)  # (...) to (..., 1), beside the classes
    return logits / temperature
