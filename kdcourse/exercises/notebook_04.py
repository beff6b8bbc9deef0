"""Exercises of notebook 04: the mixed loss, targets that stay with their images, and a fair comparison."""

import math
from statistics import fmean, stdev

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from .core import SHAPES, Case, Exercise, Misconception, case, draw, refusal
from .networks import FREEZE, MEASURE, PREPARE
from .notebook_03 import REFUSES_SHAPES, kd_loss, pairs

# --- 04.2 -------------------------------------------------------------------------------------------------------------


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"shapes differ: {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}")
    log_p_s = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_t = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    soft = temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()
    return (1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * soft


def mix_by_parts(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = kd_loss(s, t, temperature=temperature)
    hard = -F.log_softmax(s, dim=1)[torch.arange(len(labels)), labels].mean()
    return hard + alpha * (soft - hard)


def mix_by_examples(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    rows = zip(s, t, labels, strict=True)
    losses = [
        (1 - alpha) * F.cross_entropy(z, y) + alpha * kd_loss(z[None], target[None], temperature=temperature)
        for z, target, y in rows
    ]
    return torch.stack(losses).mean()


def label_term_softened(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s / temperature, labels) + alpha * kd_loss(s, t, temperature=temperature)


def labels_only(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    if s.shape != t.shape:
        raise ValueError("shapes differ")
    return F.cross_entropy(s, labels)


def never_reads_the_teacher(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * labels_only(s, t, labels, temperature=temperature, alpha=alpha)


def never_reads_the_student(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = kd_loss(s, t, temperature=temperature)
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * 0 * soft + alpha * _entropy_like(t, temperature)


def _entropy_like(t: Tensor, temperature: float) -> Tensor:
    p = F.softmax(t.detach() / temperature, dim=-1)
    return temperature**2 * torch.special.entr(p).sum(dim=-1).mean()


def alpha_on_the_labels(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return distillation_loss(s, t, labels, temperature=temperature, alpha=1 - alpha)


def mix_without_t_squared(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * kd_loss(s, t, temperature=temperature) / temperature**2


def t_squared_on_all(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return temperature**2 * mix_without_t_squared(s, t, labels, temperature=temperature, alpha=alpha)


def relu_on_the_logits(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return distillation_loss(F.relu(s), t, labels, temperature=temperature, alpha=alpha)


def softmax_twice(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    hard = F.cross_entropy(F.softmax(s, dim=-1), labels)
    return (1 - alpha) * hard + alpha * kd_loss(s, t, temperature=temperature)


def teachers_label_loss(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(t.detach(), labels) + alpha * kd_loss(s, t, temperature=temperature)


def full_label_weight(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return F.cross_entropy(s, labels) + alpha * kd_loss(s, t, temperature=temperature)


def mix_cases() -> list[Case]:
    first, second, _ = pairs()
    labels = torch.tensor([2, 0]), torch.tensor([4, 1, 1, 0])
    bad = refusal(
        SHAPES.format("(2, 3)", "(1, 3)"), draw(2, 3, seed=20), draw(1, 3, seed=21), labels[0],
        temperature=2.0, alpha=0.5,
    )  # fmt: skip
    return [
        case(*first, labels[0], temperature=2.0, alpha=0.7),
        case(*second, labels[1], temperature=4.0, alpha=0.9),
        case(*second, labels[1], temperature=3.0, alpha=0.2),
        bad,
    ]


_MIX = "kdcourse.losses.distillation_loss"
DISTILLATION_LOSS = Exercise(
    id="04.2",
    title="labels and teacher, mixed",
    question=(
        "Write `my_distillation_loss(student_logits, teacher_logits, labels, *, temperature, alpha)` for "
        "logits (N, C): "
        "(1 - alpha) × the label loss + alpha × the distillation loss with its T². `alpha` is the teacher's weight. "
        "You may use `F.cross_entropy`, and `kd_loss` from `kdcourse.losses`. Only the student gets a gradient. "
        f"{REFUSES_SHAPES}"
    ),
    skeleton=(
        "def my_distillation_loss(student_logits, teacher_logits, labels, *, temperature, alpha):\n"
        '    """(1 - alpha) · cross-entropy + alpha · T² · KL(p_t ‖ p_s)."""\n    ...'
    ),
    reference=distillation_loss,
    alternatives=(mix_by_parts, mix_by_examples),
    cases=mix_cases,
    hints=(
        "Two questions of each term: which logits does it see, and at which temperature?",
        "The label term sees the student at temperature 1. The T² belongs to the teacher's term alone.",
        "`(1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * kd_loss(...)`.",
    ),
    misconceptions=(
        Misconception(
            "temperature on the label term",
            label_term_softened,
            "you soften the label term too. Its gradient then shrinks as T grows, and accuracy falls with it. The "
            "label is hard: it sees the logits at temperature 1",
            _MIX,
        ),
        Misconception(
            "labels only",
            labels_only,
            "your loss never reads the teacher: it is the label loss, at full weight. 'Distillation' then equals "
            "ordinary training, as in tutorials that circulate",
            _MIX,
        ),
        Misconception(
            "never reads the teacher",
            never_reads_the_teacher,
            "your loss never reads the teacher: only the label term is left, with its small weight",
            _MIX,
        ),
        Misconception(
            "never reads the student",
            never_reads_the_student,
            "your soft term does not depend on the student: it is the teacher against itself. The loss looks "
            "alive, but "
            "the student learns from the labels alone",
            _MIX,
        ),
        Misconception(
            "alpha on the labels",
            alpha_on_the_labels,
            "alpha weights the labels in your function. Here it weights the teacher. Both conventions circulate, so "
            "always say which one you mean",
            _MIX,
        ),
        Misconception(
            "T² left out",
            mix_without_t_squared,
            "T² is missing in the soft term. Its gradient shrinks as 1/T², so the balance with the label term drifts "
            "with T",
            _MIX,
        ),
        Misconception(
            "T² on the whole mix",
            t_squared_on_all,
            "T² multiplies the label term too. It belongs to the soft term only, whose gradient shrinks with T",
            _MIX,
        ),
        Misconception(
            "ReLU on the logits",
            relu_on_the_logits,
            "the logits go through a ReLU. A class below zero gets no gradient any more and dies. The baseline trained "
            "so collapses, and distillation then looks miraculous",
            _MIX,
        ),
        Misconception(
            "softmax before cross-entropy",
            softmax_twice,
            "`F.cross_entropy` takes logits and softens them itself. Given probabilities it does so twice, and the "
            "label gradient almost vanishes",
            _MIX,
        ),
        Misconception(
            "label loss of the teacher",
            teachers_label_loss,
            "your label term measures the teacher. It is a constant: the labels teach the student nothing",
            _MIX,
        ),
        Misconception(
            "weights that do not sum to one",
            full_label_weight,
            "the label term has the weight 1 instead of 1 - alpha. Turning alpha up then also turns the learning rate "
            "up",
            _MIX,
        ),
    ),
    shows="the label term sees the student at temperature 1, the soft term carries T², and the weights sum to 1.",
    derivation=(
        "T² keeps the soft gradient T (p_s - p_t)/N at the size of the hard one, (p_s - y)/N at T = 1. So alpha alone "
        "sets the balance. Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2."
    ),
    gradients=(0, 1),
    forbidden=(_MIX,),
    points=2,
)

# --- 04.3 -------------------------------------------------------------------------------------------------------------


def batch_targets(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return [teacher_logits[rows] for rows in order.split(batch_size)]


def targets_by_slices(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    starts = range(0, len(order), batch_size)
    return [torch.stack([teacher_logits[int(row)] for row in order[start : start + batch_size]]) for start in starts]


def targets_reordered_first(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return list(torch.index_select(teacher_logits, 0, order).split(batch_size))


def order_ignored(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return list(teacher_logits.split(batch_size))


def order_inverted(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return batch_targets(teacher_logits, order.argsort(), batch_size)


def last_batch_dropped(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return [rows for rows in batch_targets(teacher_logits, order, batch_size) if len(rows) == batch_size]


def same_rows_every_batch(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return [teacher_logits[: len(rows)] for rows in order.split(batch_size)]


def targets_cases() -> list[Case]:
    return [
        case(draw(5, 2, seed=22), torch.tensor([3, 0, 4, 1, 2]), 2),
        case(draw(7, 3, seed=23), torch.tensor([6, 2, 0, 5, 1, 3, 4]), 3),
    ]


TARGETS = Exercise(
    id="04.3",
    title="targets that stay with their images",
    question=(
        "The teacher's logits were computed once, row k for image k. An epoch goes through the images in the order "
        "`order`, a tensor of row numbers. Write `my_batch_targets(teacher_logits, order, batch_size)`: a "
        "list with the "
        "teacher's logits for every batch; the last batch may be shorter."
    ),
    skeleton=(
        "def my_batch_targets(teacher_logits, order, batch_size):\n"
        '    """The kept teacher logits for each batch of an epoch in this order."""\n    ...'
    ),
    reference=batch_targets,
    alternatives=(targets_by_slices, targets_reordered_first),
    cases=targets_cases,
    hints=(
        "Which images does the first batch hold? Which rows belong to them?",
        "`order.split(batch_size)` gives the row numbers of every batch.",
        "`[teacher_logits[rows] for rows in order.split(batch_size)]`.",
    ),
    misconceptions=(
        Misconception(
            "targets by position",
            order_ignored,
            "you take the kept logits by position, but the images were shuffled: nearly every target belongs "
            "to another "
            "image. The loss still falls, and the student learns noise. Index the kept logits with the row numbers",
        ),
        Misconception(
            "order inverted",
            order_inverted,
            "you use the inverse of the order: where each image went, not which image comes. `order` already holds row "
            "numbers",
        ),
        Misconception(
            "last batch dropped",
            last_batch_dropped,
            "the last, shorter batch is missing, so some images never meet their teacher in this epoch",
        ),
        Misconception(
            "the first rows for every batch",
            same_rows_every_batch,
            "every batch gets the first rows of the teacher. They belong to the same few images",
        ),
    ),
    shows="kept targets are looked up by image, so shuffling cannot mix them up.",
    derivation="The batch holds images[rows], so its targets are teacher_logits[rows], with the very same row numbers.",
)

# --- 04.6 -------------------------------------------------------------------------------------------------------------

Ends = tuple[float, float, float]


def gain_interval(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    differences = [distilled[seed] - alone[seed] for seed in sorted(distilled.keys() & alone.keys())]
    mean, error = fmean(differences), stdev(differences) / math.sqrt(len(differences))
    reach = stats.t.ppf(0.975, len(differences) - 1) * error
    return mean, mean - reach, mean + reach


def gain_by_scipy(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    seeds = [seed for seed in distilled if seed in alone]
    first, second = [distilled[s] for s in seeds], [alone[s] for s in seeds]
    ends = stats.ttest_rel(first, second).confidence_interval(0.95)
    return fmean(first) - fmean(second), ends.low, ends.high


def gain_by_tensors(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    d = torch.tensor([distilled[s] - alone[s] for s in distilled if s in alone], dtype=torch.float64)
    ends = stats.t.interval(0.95, len(d) - 1, loc=d.mean().item(), scale=d.std().item() / len(d) ** 0.5)
    return d.mean().item(), float(ends[0]), float(ends[1])


def _ends(differences: list[float], factor: float) -> Ends:
    mean = fmean(differences)
    return mean, mean - factor, mean + factor


def paired_by_place(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    return gain_interval(dict(enumerate(distilled.values())), dict(enumerate(alone.values())))


def unpaired(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    first, second = list(distilled.values()), list(alone.values())
    error = math.sqrt(stdev(first) ** 2 / len(first) + stdev(second) ** 2 / len(second))
    mean = fmean(first) - fmean(second)
    reach = float(stats.t.ppf(0.975, len(first) + len(second) - 2)) * error
    return mean, mean - reach, mean + reach


def _paired(distilled: dict[int, float], alone: dict[int, float]) -> list[float]:
    return [distilled[seed] - alone[seed] for seed in sorted(distilled.keys() & alone.keys())]


def normal_for_t(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _ends(found, 1.959964 * stdev(found) / math.sqrt(len(found)))


def spread_for_error(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _ends(found, float(stats.t.ppf(0.975, len(found) - 1)) * stdev(found))


def one_sided(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _ends(found, float(stats.t.ppf(0.95, len(found) - 1)) * stdev(found) / math.sqrt(len(found)))


def gain_interval_cases() -> list[Case]:
    a, b = {0: 0.951, 1: 0.962, 2: 0.949, 3: 0.958}, {3: 0.95, 0: 0.941, 2: 0.944, 1: 0.957}
    # seed 5 ran in one arm only
    return [case(a, b), case({**a, 5: 0.97}, b)]


GAIN_INTERVAL = Exercise(
    id="04.6",
    title="a fair interval",
    question=(
        "Two dictionaries from seed to accuracy; their orders may differ, and a seed may have run in one arm only. "
        "Write `my_gain_interval(distilled, alone)`: the mean of distilled minus alone over the seeds that "
        "*both* have, "
        "and the two ends of its 95 % interval by Student's t, paired by seed. `scipy.stats.t.ppf` gives quantiles."
    ),
    skeleton=(
        "def my_gain_interval(distilled, alone):\n"
        '    """Mean gain over common seeds, and the ends of its 95 % interval."""\n    ...'
    ),
    reference=gain_interval,
    alternatives=(gain_by_scipy, gain_by_tensors),
    cases=gain_interval_cases,
    hints=(
        "Which seeds do both have? Only those can be compared.",
        "One difference a seed. Then mean ± quantile × standard deviation / √n, with n - 1 in the deviation.",
        "`scipy.stats.t.ppf(0.975, n - 1)` is the quantile: 2.5 % are cut off on each side.",
    ),
    misconceptions=(
        Misconception(
            "different seeds in the two arms",
            paired_by_place,
            "you pair by place, so different seeds meet. The difference then holds the luck of both starts. Look each "
            "seed up in both dictionaries",
        ),
        Misconception(
            "arms not paired",
            unpaired,
            "you treat the arms as unrelated. The seeds' own luck, which both arms share, then stays in the interval "
            "and makes it wider; and a seed that one arm never ran is compared with nothing",
        ),
        Misconception(
            "normal for Student's t",
            normal_for_t,
            "you use 1.96, as if the spread were known. From a few seeds it is only estimated: with four the factor is "
            "3.18, so your interval is much too narrow",
        ),
        Misconception(
            "spread for standard error",
            spread_for_error,
            "you forget to divide by √n. This shows how single seeds spread, not how sure the mean is",
        ),
        Misconception(
            "one side only",
            one_sided,
            "your quantile cuts off 5 % on each side, which makes a 90 % interval. For 95 % ask for 0.975",
        ),
    ),
    shows="pairing takes out the luck that both arms share, and few seeds need Student's t.",
    derivation=(
        "With differences d_i, mean ± t(0.975, n-1) · s/√n, s² = Σ (d_i - mean)²/(n-1). It is the interval of the "
        "paired t test."
    ),
    forbidden=("kdcourse.metrics.paired_interval",),
)

# --- 04.7 -------------------------------------------------------------------------------------------------------------


def overtakes(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    since = None
    for step, one, other in zip(steps, alone, distilled, strict=True):
        if other <= one:
            since = None
        elif since is None:
            since = step
    return since


def overtakes_from_behind(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    found = None
    for place in range(len(steps) - 1, -1, -1):
        if distilled[place] <= alone[place]:
            break
        found = steps[place]
    return found


def overtakes_by_all(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    wins = [other > one for one, other in zip(alone, distilled, strict=True)]
    return next((step for place, step in enumerate(steps) if all(wins[place:])), None)


def first_lead(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    wins = zip(steps, alone, distilled, strict=True)
    return next((step for step, one, other in wins if other > one), None)


def shortest_run_decides(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    return steps[0] if distilled[0] > alone[0] else None


def end_decides(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    return steps[-1] if distilled[-1] > alone[-1] else None


def best_decides(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    return steps[distilled.index(max(distilled))] if max(distilled) > max(alone) else None


def overtakes_cases() -> list[Case]:
    return [
        case([500, 1000, 2000], [0.92, 0.93, 0.935], [0.9, 0.935, 0.944]),
        case([100, 200, 400, 800, 1600], [0.8, 0.88, 0.9, 0.91, 0.915], [0.82, 0.85, 0.89, 0.92, 0.918]),
        case([500, 1000], [0.92, 0.95], [0.94, 0.94]),
        case([50, 100, 200], [0.5, 0.6, 0.7], [0.52, 0.63, 0.74]),
    ]


OVERTAKES = Exercise(
    id="04.7",
    title="how long it takes to win",
    question=(
        "Two arms were trained for several numbers of steps. Write `my_overtakes(steps, alone, distilled)`: "
        "the smallest "
        "number of steps from which on the distilled student is strictly better at *every* longer training too; "
        "`None` if there is none. The three lists go together, and `steps` ascends."
    ),
    skeleton=(
        "def my_overtakes(steps, alone, distilled):\n"
        '    """The steps from which on distilled is better throughout, or None."""\n    ...'
    ),
    reference=overtakes,
    alternatives=(overtakes_from_behind, overtakes_by_all),
    cases=overtakes_cases,
    hints=(
        "A lead that is lost again does not count. From which end is that easiest to see?",
        "Go from the longest training backwards, for as long as the distilled student is ahead.",
        "`wins = [d > a for ...]`, then the first place at which `all(wins[place:])`.",
    ),
    misconceptions=(
        Misconception(
            "too few steps",
            shortest_run_decides,
            "you decide by the shortest training. Distillation often loses there and wins later: soft targets are more "
            "to learn. Too few steps are a usual reason why it 'does not work'",
        ),
        Misconception(
            "the first lead",
            first_lead,
            "you return the first lead, though it is lost again later. An early lead may be luck: ask that it lasts",
        ),
        Misconception(
            "the end alone",
            end_decides,
            "you look at the longest training only. The lead may have begun long before",
        ),
        Misconception(
            "best against best",
            best_decides,
            "you compare the best of each arm, at different numbers of steps. Equal budgets are what makes it fair",
        ),
    ),
    shows="who wins depends on the budget, so both arms get the same and more than one is tried.",
    derivation="Going back from the longest training, the answer is where the unbroken row of wins begins.",
)

# --- 04.8 -------------------------------------------------------------------------------------------------------------


def placebo(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = teacher_logits.clone()
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        given[rows] = teacher_logits[rows.roll(-1)]
    return given


def placebo_by_sorting(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    order = labels.argsort(stable=True)
    groups = order.split(torch.bincount(labels[order]).tolist())
    source = torch.cat([rows.roll(-1) for rows in groups])
    return torch.zeros_like(teacher_logits).index_copy(0, order, teacher_logits[source])


def placebo_by_looking_ahead(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    y, count = labels.tolist(), len(labels)
    following = [
        next((row + k) % count for k in range(1, count + 1) if y[(row + k) % count] == y[row]) for row in range(count)
    ]
    return torch.stack([teacher_logits[row] for row in following])


def across_classes(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return teacher_logits.roll(-1, dims=0)


def by_the_named_class(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return placebo(teacher_logits, teacher_logits.argmax(dim=-1))


def mean_of_the_class(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([teacher_logits[labels == label].mean(dim=0) for label in labels])


def other_way_round(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    given = teacher_logits.clone()
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        given[rows] = teacher_logits[rows.roll(1)]
    return given


def classes_shuffled(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return teacher_logits.roll(-1, dims=1)


def nothing_moved(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return teacher_logits.clone()


def placebo_cases() -> list[Case]:
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2, 1])
    return [
        case(draw(4, 2, seed=24), torch.tensor([0, 0, 1, 0])),
        case(draw(9, 3, seed=25), labels),
    ]


PLACEBO = Exercise(
    id="04.8",
    title="a placebo",
    question=(
        "To see whether soft targets must fit *their* image, give each image the teacher's logits of another image of "
        "the same *label*. Write `my_placebo(teacher_logits, labels)`: row k gets the logits of the next "
        "row with its "
        "label; the last row of a label gets those of the first. Leave `teacher_logits` as they are."
    ),
    skeleton=(
        "def my_placebo(teacher_logits, labels):\n"
        '    """Each row gets the logits of the next row with the same label."""\n    ...'
    ),
    reference=placebo,
    alternatives=(placebo_by_sorting, placebo_by_looking_ahead),
    cases=placebo_cases,
    hints=(
        "What must stay the same, so that only the tie between image and target is cut?",
        "For one label: `rows = (labels == label).nonzero().flatten()`. `rows.roll(-1)` are the next ones.",
        "Begin with a clone; for each label `given[rows] = teacher_logits[rows.roll(-1)]`.",
    ),
    misconceptions=(
        Misconception(
            "shuffled across classes",
            across_classes,
            "you move logits across labels. Many targets then name a wrong class, and the student fails for "
            "that reason: "
            "the placebo would prove nothing",
        ),
        Misconception(
            "grouped by what the teacher names",
            by_the_named_class,
            "you group by the class that the teacher names. Its mistakes then go to images for which they are no "
            "mistakes. Group by label",
        ),
        Misconception(
            "the mean of the class",
            mean_of_the_class,
            "you give every image the mean of its class. That is another question: the spread of the targets is gone "
            "too, not only their tie to the image",
        ),
        Misconception(
            "classes shuffled",
            classes_shuffled,
            "you move the classes within a row. The target then names another class than the label",
        ),
        Misconception(
            "nothing moved",
            nothing_moved,
            "every row still has its own logits: this is no placebo but the treatment",
        ),
        Misconception(
            "the row before",
            other_way_round,
            "each row gets the logits of the row *before* it with its label. That is a placebo too, but the next one "
            "was asked for: `roll(-1)`",
        ),
    ),
    shows="a placebo keeps everything but the one thing in question, here the tie between image and soft target.",
    derivation="Within a label the rows trade logits in a circle: same targets, same labels, none with its own image.",
)

EXERCISES = (FREEZE, DISTILLATION_LOSS, TARGETS, MEASURE, PREPARE, GAIN_INTERVAL, OVERTAKES, PLACEBO)
