"""What a loss costs against its bare formula in PyTorch's own words, forward and backward: ``make bench``.

Runs are interleaved in random order and compared turn by turn. The bar is 1.1 with all checks on.
"""

import math
import random
import statistics
import time

import torch
import torch.nn.functional as F

from kdcourse import losses

T, ALPHA, SMOOTHING = 4.0, 0.9, 0.1
TURNS = {(256, 1_000): 150, (256, 32_000): 11}


def log_p(logits, temperature=T):
    return F.log_softmax(logits / temperature, dim=-1)


def kl_div(log_q, log_p):
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def bare_kd(s, t, y):
    return T**2 * kl_div(log_p(s), log_p(t))


def bare_distillation(s, t, y):
    return (1 - ALPHA) * F.cross_entropy(s, y) + ALPHA * bare_kd(s, t, y)


def bare_reverse(s, t, y):
    return T**2 * kl_div(log_p(t), log_p(s))


def bare_js(s, t, y):
    log_s, log_t = log_p(s), log_p(t)
    log_m = torch.logaddexp(log_s, log_t) - math.log(2)
    return T**2 * (kl_div(log_m, log_t) + kl_div(log_m, log_s)) / 2


def bare_mse(s, t, y):
    return 0.5 * F.mse_loss(s - s.mean(dim=-1, keepdim=True), t - t.mean(dim=-1, keepdim=True))


def bare_dkd(s, t, y):
    """As the paper's authors write it, with a mask of -1000 at the label."""
    hit = F.one_hot(y, s.shape[-1]).bool()
    p, q = log_p(s).exp(), log_p(t).exp()
    two_p, two_q = (torch.stack([z[hit], (z * ~hit).sum(dim=-1)], dim=-1) for z in (p, q))
    target = F.kl_div(two_p.log(), two_q, reduction="batchmean")
    others = kl_div(log_p(s - 1000 * T * hit), log_p(t - 1000 * T * hit))
    return T**2 * (target + 8 * others)


def bare_smoothing(s, t, y):
    return F.cross_entropy(s, y, label_smoothing=SMOOTHING)


def bare_multilabel(s, t, y):
    crossed = F.binary_cross_entropy_with_logits(s / T, torch.sigmoid(t / T), reduction="sum")
    entropy = F.binary_cross_entropy_with_logits(t / T, torch.sigmoid(t / T), reduction="sum")
    return T**2 * (crossed - entropy) / len(s)


PAIRS = {
    "kd_loss": (bare_kd, lambda s, t, y, **o: losses.kd_loss(s, t, temperature=T, **o)),
    "distillation_loss": (
        bare_distillation,
        lambda s, t, y, **o: losses.distillation_loss(s, t, y, temperature=T, alpha=ALPHA, **o),
    ),
    "reverse_kd_loss": (bare_reverse, lambda s, t, y, **o: losses.reverse_kd_loss(s, t, temperature=T, **o)),
    "js_loss": (bare_js, lambda s, t, y, **o: losses.js_loss(s, t, temperature=T, **o)),
    "logit_mse_loss": (bare_mse, lambda s, t, y, **o: losses.logit_mse_loss(s, t, **o)),
    "dkd_loss": (bare_dkd, lambda s, t, y, **o: losses.dkd_loss(s, t, y, temperature=T, **o)),
    "multilabel_kd_loss": (bare_multilabel, lambda s, t, y, **o: losses.multilabel_kd_loss(s, t, temperature=T, **o)),
    "label_smoothing_loss": (
        bare_smoothing,
        lambda s, t, y, **o: losses.label_smoothing_loss(s, y, smoothing=SMOOTHING, **o),
    ),
}


def seconds(loss, student, teacher, labels, **options):
    student.grad = None
    start = time.perf_counter()
    loss(student, teacher, labels, **options).backward()
    return time.perf_counter() - start


def compare(name, shape):
    """Median milliseconds of the bare formula, and by how many times the loss takes longer, with checks and without."""
    student, teacher = torch.randn(2, *shape)
    case = student.requires_grad_(), teacher, torch.randint(shape[-1], shape[:1])
    bare, ours = PAIRS[name]
    torch.testing.assert_close(ours(*case), bare(*case), rtol=1e-3, atol=1e-6)
    arms = [lambda: seconds(bare, *case), lambda: seconds(ours, *case), lambda: seconds(ours, *case, validate=False)]
    taken = [[], [], []]
    for _ in range(TURNS[shape]):
        for arm in random.sample(range(3), 3):
            taken[arm].append(arms[arm]())
    ratios = [statistics.median(a / b for a, b in zip(some, taken[0], strict=True)) for some in taken[1:]]
    return 1000 * statistics.median(taken[0]), *ratios


def main() -> None:
    torch.manual_seed(0)
    random.seed(0)
    assert PAIRS.keys() == set(losses.__all__), "a loss without its bare formula"
    for shape in TURNS:
        for name in PAIRS:
            bare, checked, unchecked = compare(name, shape)
            print(
                f"{name:<21}{str(shape):<14}bare {bare:8.2f} ms   the loss takes {checked:.2f} × this (bar 1.10), "
                f"with validate=False {unchecked:.2f} ×"
            )


if __name__ == "__main__":
    main()
