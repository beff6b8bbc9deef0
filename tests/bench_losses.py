"""What a loss costs against its bare formula in PyTorch's own words, forward and backward: ``make bench``.

Runs are interleaved in random order and compared turn by turn. The bar is 1.1 with all checks on, and 1.2 for losses on
layers.
"""

import math
import random
import statistics
import time

import torch
import torch.nn.functional as F

from kdcourse import losses
from kdcourse.losses import features, relations
from kdcourse.losses.sequences import top_k_kd_loss

T, ALPHA, SMOOTHING = 4.0, 0.9, 0.1
TURNS = {(256, 1_000): 150, (256, 32_000): 11}
FLAT, MAPS = (128, 512), (64, 64, 14, 14)


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


def unit(features, dim):
    return F.normalize(features, dim=dim)


def bare_hint(s, t):
    return F.mse_loss(s, t)


def bare_attention(s, t):
    s, t = (unit(maps.square().sum(dim=1).flatten(1), 1) for maps in (s, t))
    return (s - t).square().mean()


def bare_mmd(s, t):
    s, t = (unit(maps.flatten(2), 2) for maps in (s, t))
    within = (s @ s.transpose(1, 2)).square().mean() + (t @ t.transpose(1, 2)).square().mean()
    return within - 2 * (s @ t.transpose(1, 2)).square().mean()


def bare_distance(s, t):
    s, t = (F.pdist(features.flatten(1)) for features in (s, t))
    return F.smooth_l1_loss(s / s.mean(), t / t.mean())


def bare_angle(s, t):
    """As the paper's authors write it, over all triples."""
    s, t = (unit(features.unsqueeze(0) - features.unsqueeze(1), 2) for features in (s, t))
    return F.smooth_l1_loss(torch.bmm(s, s.transpose(1, 2)), torch.bmm(t, t.transpose(1, 2)))


def bare_similarity(s, t):
    s, t = (unit(features @ features.T, 1) for features in (s.flatten(1), t.flatten(1)))
    return (s - t).square().mean()


def bare_contrastive(s, t):
    return F.cross_entropy(unit(s.flatten(1), 1) @ unit(t.flatten(1), 1).T / 0.1, torch.arange(len(s)))


ON_LAYERS = {
    "hint_loss": (bare_hint, [FLAT, MAPS]),
    "attention_transfer_loss": (bare_attention, [MAPS]),
    "mmd_loss": (bare_mmd, [MAPS]),
    "relation_distance_loss": (bare_distance, [FLAT, MAPS]),
    "relation_angle_loss": (bare_angle, [FLAT]),
    "similarity_loss": (bare_similarity, [FLAT, MAPS]),
    "contrastive_loss": (bare_contrastive, [FLAT, MAPS]),
}
"""The bare formula, and the shapes at which both are timed."""
ANGLES, OTHERS = 9, {FLAT: 150, MAPS: 21}


def seconds(loss, student, *others, **options):
    student.grad = None
    start = time.perf_counter()
    loss(student, *others, **options).backward()
    return time.perf_counter() - start


def compare(name, shape):
    """Median milliseconds of the bare formula, and by how many times the loss takes longer, with checks and without."""
    student, teacher = torch.randn(2, *shape)
    case = student.requires_grad_(), teacher, torch.randint(shape[-1], shape[:1])
    bare, ours = PAIRS[name]
    torch.testing.assert_close(ours(*case), bare(*case), rtol=1e-3, atol=1e-6)
    return ratios(bare, ours, case, TURNS[shape])


def compare_on_layers(name, shape):
    student, teacher = torch.randn(2, *shape)
    bare, ours = ON_LAYERS[name][0], getattr(features, name, None) or getattr(relations, name)
    case = student.requires_grad_(), teacher
    # the mean over all triples counts those with an example twice, which cost nothing
    angles = name == "relation_angle_loss"
    scale = (shape[0] - 1) * (shape[0] - 2) / shape[0] ** 2 if angles else 1.0
    torch.testing.assert_close(ours(*case) * scale, bare(*case), rtol=1e-3, atol=1e-6)
    return ratios(bare, ours, case, ANGLES if angles else OTHERS[shape])


def ratios(bare, ours, case, turns):
    arms = [lambda: seconds(bare, *case), lambda: seconds(ours, *case), lambda: seconds(ours, *case, validate=False)]
    taken = [[], [], []]
    for _ in range(turns):
        for arm in random.sample(range(3), 3):
            taken[arm].append(arms[arm]())
    times = [statistics.median(a / b for a, b in zip(some, taken[0], strict=True)) for some in taken[1:]]
    return 1000 * statistics.median(taken[0]), *times


def compare_stored(shape, k):
    """By how many times `kd_loss` takes longer than `top_k_kd_loss` on k of the classes, with a tail and without."""
    student, teacher = torch.randn(2, *shape)
    student.requires_grad_()
    stored = (teacher / T).log_softmax(dim=-1).topk(k)
    taken = [], [], []
    for _ in range(9):
        taken[0].append(seconds(losses.kd_loss, student, teacher, temperature=T))
        for times, tail in zip(taken[1:], (True, False), strict=True):
            times.append(seconds(top_k_kd_loss, student, *stored, temperature=T, tail=tail))
    return [statistics.median(a / b for a, b in zip(taken[0], some, strict=True)) for some in taken[1:]]


def show(name, shape, bar, bare, checked, unchecked):
    print(
        f"{name:<25}{str(shape):<18}bare {bare:8.2f} ms   the loss takes {checked:.2f} × this (bar {bar:.2f}), "
        f"with validate=False {unchecked:.2f} ×",
        flush=True,
    )


def main() -> None:
    torch.manual_seed(0)
    random.seed(0)
    assert PAIRS.keys() == set(losses.__all__), "a loss without its bare formula"
    # a Jacobian is made of passes through networks, whose time it takes
    assert ON_LAYERS.keys() == {*features.__all__, *relations.__all__} - {"jacobian_loss"}
    for name, (_, shapes) in ON_LAYERS.items():
        for shape in shapes:
            show(name, shape, 1.2, *compare_on_layers(name, shape))
    for shape in TURNS:
        for name in PAIRS:
            show(name, shape, 1.1, *compare(name, shape))
    with_tail, without = compare_stored((64, 32_000), 64)
    print(
        f"kd_loss on 32,000 classes takes {without:.1f} × what top_k_kd_loss(tail=False) takes on 64 of them (bar 20)"
    )
    print(f"and {with_tail:.1f} × what it takes with a tail, which is a sum over all classes (no bar)")


if __name__ == "__main__":
    main()
