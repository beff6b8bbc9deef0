"""Exercises of notebook 10, the bug clinic: programs that circulate, each wrong in one way, each to be mended.

The first misconception of each exercise is the program that the notebook shows.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .clinic import (
    FAIR_ARMS,
    LOGITS,
    MODES,
    OPTIMIZER,
    REPLACED,
    TRAIN_MODE,
)
from .core import Case, Exercise, Misconception, case, draw

SOFT_LINES = "the mean over the examples of T² · KL(p_t ‖ p_s), for logits (N, C)"


def small_pairs() -> list[tuple[Tensor, Tensor]]:
    small = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    return [(small, small.flip(-1) + 1), (draw(4, 5, seed=70) + 1, draw(4, 5, seed=71))]


def soft_cases() -> list[Case]:
    small, batch = small_pairs()
    return [case(*small, temperature=1.0), case(*small, temperature=2.0), case(*batch, temperature=4.0)]


def softened(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Probabilities and their logarithms."""
    return F.softmax(logits / temperature, dim=-1), F.log_softmax(logits / temperature, dim=-1)


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_p_s = F.log_softmax(student_logits / temperature, dim=1)
    p_t = F.softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p_s, p_t, reduction="batchmean")


def soft_loss_log_target(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    (_, log_p_s), (_, log_p_t) = softened(student_logits, temperature), softened(teacher_logits, temperature)
    total = F.kl_div(log_p_s, log_p_t, reduction="sum", log_target=True)
    return total * temperature**2 / len(student_logits)


def soft_loss_by_definition(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_p_s = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_t = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()


# --- 10.01 ------------------------------------------------------------------------------------------------------------


def default_reduction(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    # PyTorch warns of reduction="mean"; the same by hand
    return temperature**2 * F.kl_div(softened(s, temperature)[1], softened(t, temperature)[0], reduction="none").mean()


def summed_over_the_batch(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return soft_loss(s, t, temperature=temperature) * len(s)


def times_the_batch_size(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return default_reduction(s, t, temperature=temperature) * len(s)


def mended_but_no_t_squared(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return soft_loss(s, t, temperature=temperature) / temperature**2


REDUCTION = Exercise(
    id="10.01",
    title="a loss that pales with every class",
    question=f"Mend `case_1` as `mended_1(student_logits, teacher_logits, *, temperature)`: {SOFT_LINES}.",
    skeleton=(
        "def mended_1(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · KL(p_t ‖ p_s), the mean over examples."""\n    ...'
    ),
    reference=soft_loss,
    alternatives=(soft_loss_log_target, soft_loss_by_definition),
    cases=soft_cases,
    hints=(
        "By what is the sum of all terms divided? Ask the loss for its default.",
        "`nn.KLDivLoss()` divides by N · C. A class more, and the loss is smaller.",
        '`nn.KLDivLoss(reduction="batchmean")` divides by N.',
    ),
    misconceptions=(
        Misconception(
            "the default reduction",
            default_reduction,
            "exactly C times too small: the default reduction divides by N · C. Divide by the number of examples",
        ),
        Misconception(
            "summed over the batch",
            summed_over_the_batch,
            "N times too large: you sum over the examples. Then the batch size is a hidden learning rate",
        ),
        Misconception(
            "multiplied by the wrong number",
            times_the_batch_size,
            "the mean over N · C numbers, times N, leaves a division by C. The factor that is missing is C",
        ),
        Misconception(
            "T² lost on the way",
            mended_but_no_t_squared,
            "the reduction is mended, but T² has gone. It belonged there",
        ),
    ),
    shows="a divergence is a sum over classes and a mean over examples.",
    derivation="KL = Σ_k p_k ln(p_k / q_k) already weights its terms by p_k. Dividing by C too is once too often.",
    gradients=(0,),
)

# --- 10.02 and 10.04 --------------------------------------------------------------------------------------------------


def mixed_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    log_p_s = F.log_softmax(student_logits / temperature, dim=1)
    p_t = F.softmax(teacher_logits / temperature, dim=1)
    soft = temperature**2 * F.kl_div(log_p_s, p_t, reduction="batchmean")
    return (1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * soft


def mixed_by_steps(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    hard = F.nll_loss(F.log_softmax(s, dim=-1), labels)
    return torch.lerp(hard, soft_loss_by_definition(s, t, temperature=temperature), alpha)


def mixed_by_targets(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    p_t, log_p_t = softened(t, temperature)
    excess = F.cross_entropy(s / temperature, p_t) + (p_t * log_p_t).sum(dim=1).mean()
    one_hot = F.one_hot(labels, s.shape[1]).to(s.dtype)
    return (1 - alpha) * F.cross_entropy(s, one_hot) + alpha * excess * temperature * temperature


def no_t_squared(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = soft_loss(s, t, temperature=temperature) / temperature**2
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft


def t_for_t_squared(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = soft_loss(s, t, temperature=temperature) / temperature
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft


def t_squared_on_both(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return temperature**2 * no_t_squared(s, t, labels, temperature=temperature, alpha=alpha)


def labels_softened_too(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    hard = F.cross_entropy(s / temperature, labels)
    return (1 - alpha) * hard + alpha * soft_loss(s, t, temperature=temperature)


def mixed_cases() -> list[Case]:
    small, batch = small_pairs()
    labels = torch.tensor([2, 0]), torch.tensor([4, 1, 1, 0])
    return [
        case(*small, labels[0], temperature=2.0, alpha=0.75),
        case(*batch, labels[1], temperature=4.0, alpha=0.9),
        case(*batch, labels[1], temperature=3.0, alpha=0.25),
    ]


MIXED = "(1 - alpha) × cross-entropy + alpha × T² · KL(p_t ‖ p_s)"
T_SQUARED = Exercise(
    id="10.02",
    title="a teacher that fades as it warms",
    question=f"Mend `case_2` as `mended_2(student_logits, teacher_logits, labels, *, temperature, alpha)`: {MIXED}.",
    skeleton=(
        "def mended_2(student_logits, teacher_logits, labels, *, temperature, alpha):\n"
        '    """(1 - alpha) · cross-entropy + alpha · the soft loss."""\n    ...'
    ),
    reference=mixed_loss,
    alternatives=(mixed_by_steps, mixed_by_targets),
    cases=mixed_cases,
    hints=(
        "How does the gradient of the soft term depend on T?",
        "One 1/T comes from the chain rule, one because both distributions become flat.",
        "Multiply the soft term, and only that one, by `temperature**2`.",
    ),
    misconceptions=(
        Misconception(
            "T² left out",
            no_t_squared,
            "T² is missing. The soft gradient shrinks as 1/T², so its balance with the label term drifts with T",
        ),
        Misconception(
            "T instead of T²",
            t_for_t_squared,
            "one T is not enough: the gradient still shrinks as 1/T. The chain rule gives one, the flattening another",
        ),
        Misconception(
            "T² on both terms",
            t_squared_on_both,
            "now the label term grows with T too, so the balance is as bad as before, and the learning rate worse",
        ),
        Misconception(
            "temperature on the label term",
            labels_softened_too,
            "you divide by the temperature in the label term too. Its gradient then shrinks with T. A label is hard: "
            "it sees the logits at T = 1",
        ),
    ),
    shows="with T² the balance of teacher and labels is alpha's alone, whatever the temperature.",
    derivation="The soft gradient is (p_s - p_t) / (T N), and p_s - p_t shrinks like 1/T itself: T² undoes both.",
    gradients=(0,),
)


def teacher_against_itself(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft_loss(t, t, temperature=temperature)


def student_against_itself(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    p_s, log_p_s = softened(s, temperature)
    soft = -(temperature**2) * (p_s * log_p_s).sum(dim=1).mean()
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft


def labels_alone(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return F.cross_entropy(s, labels)


def detached_student(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft_loss(s.detach(), t, temperature=temperature)


def roles_swapped(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft_loss(t, s, temperature=temperature)


READS_BOTH = Exercise(
    id="10.04",
    title="a student that does not move",
    question=f"Mend `case_4` as `mended_4(student_logits, teacher_logits, labels, *, temperature, alpha)`: {MIXED}.",
    skeleton=(
        "def mended_4(student_logits, teacher_logits, labels, *, temperature, alpha):\n"
        '    """(1 - alpha) · cross-entropy + alpha · the soft loss."""\n    ...'
    ),
    reference=mixed_loss,
    alternatives=(mixed_by_steps, mixed_by_targets),
    cases=mixed_cases,
    hints=(
        "Which arguments does the soft term depend on? Change one at a time and look.",
        "Read the two lines that soften logits, letter by letter.",
        "The first `log_softmax` must see the student's logits.",
    ),
    misconceptions=(
        Misconception(
            "teacher against teacher",
            teacher_against_itself,
            "the soft term never reads the student: it compares the teacher with itself. It is zero, and so is its "
            "gradient. What the student learns comes from the labels",
        ),
        Misconception(
            "student alone",
            student_against_itself,
            "the soft term never reads the teacher: it is the student's own entropy. Minimising it only makes the "
            "student surer of what it thinks already",
        ),
        Misconception(
            "labels alone",
            labels_alone,
            "your loss never reads the teacher. 'Distillation' then equals ordinary training",
        ),
        Misconception(
            "student detached",
            detached_student,
            "the value is right, but the student is detached in the soft term. The teacher is what is to be detached",
        ),
        Misconception(
            "student and teacher swapped",
            roles_swapped,
            "student and teacher have changed places: this is KL(p_s ‖ p_t), the other direction",
        ),
    ),
    shows="a loss must depend on every argument: change one, and the value has to change.",
    derivation="Of KL(p_t ‖ p_s) the student's gradient is (p_s - p_t) / (T N); with p_t in both places it is zero.",
    gradients=(0,),
)

# --- 10.03 ------------------------------------------------------------------------------------------------------------


def probabilities_for_logarithms(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    p_s, p_t = softened(s, temperature)[0], softened(t, temperature)[0]
    return temperature**2 * F.kl_div(p_s, p_t, reduction="batchmean")


def logarithms_for_probabilities(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    log_p_s, log_p_t = softened(s, temperature)[1], softened(t, temperature)[1]
    return temperature**2 * F.kl_div(log_p_s, log_p_t, reduction="batchmean")


def bare_logits(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * F.kl_div(s / temperature, softened(t, temperature)[0], reduction="batchmean")


def arguments_swapped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return soft_loss(t, s, temperature=temperature)


LOG_PROBABILITIES = Exercise(
    id="10.03",
    title="a divergence below zero",
    question=f"Mend `case_3` as `mended_3(student_logits, teacher_logits, *, temperature)`: {SOFT_LINES}.",
    skeleton=(
        "def mended_3(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · KL(p_t ‖ p_s), the mean over examples."""\n    ...'
    ),
    reference=soft_loss,
    alternatives=(soft_loss_log_target, soft_loss_by_definition),
    cases=soft_cases,
    hints=(
        "No divergence is negative, so this is none. What does `kl_div` expect?",
        "Its first argument is the student, as log-probabilities; its second the teacher, as probabilities.",
        "`F.log_softmax` for the student, `F.softmax` for the teacher.",
    ),
    misconceptions=(
        Misconception(
            "probabilities for log-probabilities",
            probabilities_for_logarithms,
            "you pass the student's probabilities where `kl_div` wants log-probabilities. It takes a probability for a "
            "logarithm, so identical networks get something other than zero",
        ),
        Misconception(
            "log-probabilities twice",
            logarithms_for_probabilities,
            "now both are log-probabilities. The second must be probabilities, unless you say `log_target=True`; "
            "the logarithm of a negative number is none",
        ),
        Misconception(
            "bare logits",
            bare_logits,
            "the student's logits are no log-probabilities: without the normaliser a shift of all logits changes the "
            "loss, and minimising it pushes them up without end",
        ),
        Misconception(
            "arguments swapped",
            arguments_swapped,
            "this is KL(p_s ‖ p_t). `kl_div` takes the student first although the formula names it last",
        ),
    ),
    shows="a divergence is zero for equal distributions and never negative: two tests that need no known value.",
    derivation="`kl_div(input, target)` computes target · (ln target - input): the input must already be a logarithm.",
    gradients=(0,),
)

# --- 10.05 ------------------------------------------------------------------------------------------------------------


def log_of_softmax_loss(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    p_s, p_t = softened(s, temperature)[0], softened(t, temperature)[0]
    return temperature**2 * (p_t * (p_t.log() - p_s.log())).sum(dim=1).mean()


def _with_logarithm(s: Tensor, t: Tensor, temperature: float, log_p_s: Tensor) -> Tensor:
    p_t, log_p_t = softened(t, temperature)
    return temperature**2 * (p_t * (log_p_t - log_p_s)).sum(dim=1).mean()


def epsilon_inside(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _with_logarithm(s, t, temperature, (softened(s, temperature)[0] + 1e-8).log())


def probability_clamped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _with_logarithm(s, t, temperature, softened(s, temperature)[0].clamp(min=1e-8).log())


def logarithm_clamped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _with_logarithm(s, t, temperature, softened(s, temperature)[1].clamp(min=-100))


def safe_cases() -> list[Case]:
    far = torch.tensor([[1000.0, 0.0]], dtype=torch.float64)
    level, sure = torch.zeros_like(far), torch.tensor([[17.7, 0.0]], dtype=torch.float64)
    return [
        case(level, sure, temperature=2.0),
        case(sure, level, temperature=1.0),
        case(far, far.flip(1), temperature=1.0),
    ]


SAFE_LOG = Exercise(
    id="10.05",
    title="a loss that is no number",
    question=f"Mend `case_5` as `mended_5(student_logits, teacher_logits, *, temperature)`: {SOFT_LINES}, finite.",
    skeleton=(
        "def mended_5(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · KL(p_t ‖ p_s), finite however sure the two are."""\n    ...'
    ),
    reference=soft_loss_by_definition,
    alternatives=(soft_loss, soft_loss_log_target),
    cases=safe_cases,
    hints=(
        "Which numbers does softmax give for logits far apart? And their logarithms?",
        "A probability that has rounded to 0 is lost. The logarithm must be taken before that happens.",
        "`F.log_softmax` goes from logits to log-probabilities without passing through the probabilities.",
    ),
    misconceptions=(
        Misconception(
            "log of softmax",
            log_of_softmax_loss,
            "a probability rounds to 0, its logarithm is infinite, and the gradient no number. Use `log_softmax`, "
            "which never makes the probability",
        ),
        Misconception(
            "an epsilon inside",
            epsilon_inside,
            "an epsilon hides the infinity and is no cure: the loss stops growing, and where the student is most "
            "wrong its gradient is zero",
        ),
        Misconception(
            "the probability clamped",
            probability_clamped,
            "clamping the probability hides the infinity, and cuts the gradient off exactly where the student is "
            "most wrong",
        ),
        Misconception(
            "the logarithm clamped",
            logarithm_clamped,
            "`log_softmax` is right; the clamp behind it is not needed, and cuts off the gradient of a very wrong "
            "student",
        ),
    ),
    shows="the surest mistakes are what a student learns most from, so the logarithm must survive them.",
    derivation="ln p_k = z_k - m - ln Σ e^(z_j - m) with m the largest logit: no overflow, and no logarithm of zero.",
    gradients=(0,),
)

# --- 10.10 ------------------------------------------------------------------------------------------------------------

Batches = list[tuple[Tensor, Tensor]]


def paired_batches(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return [(images[rows], kept[rows]) for rows in order.split(batch_size)]


def paired_first(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images[order].split(batch_size), kept[order].split(batch_size), strict=True))


def paired_by_counting(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    found = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size].tolist()
        found.append((torch.stack([images[row] for row in rows]), torch.stack([kept[row] for row in rows])))
    return found


def kept_by_position(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images[order].split(batch_size), kept.split(batch_size), strict=True))


def targets_shuffled_alone(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images.split(batch_size), kept[order].split(batch_size), strict=True))


def kept_by_the_inverse(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images[order].split(batch_size), kept[order.argsort()].split(batch_size), strict=True))


def not_shuffled(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images.split(batch_size), kept.split(batch_size), strict=True))


def batches_cases() -> list[Case]:
    return [
        case(draw(5, 2, seed=72), draw(5, 3, seed=73), torch.tensor([3, 0, 4, 1, 2]), 2),
        case(draw(7, 2, seed=74), draw(7, 2, seed=75), torch.tensor([6, 2, 0, 5, 1, 3, 4]), 3),
    ]


KEPT = Exercise(
    id="10.10",
    title="a teacher that names other images",
    question=(
        "Mend `case_10` as `mended_10(images, kept, order, batch_size)`: an epoch's batches `(images, targets)` in "
        "the order `order`, the kept logits with the images that they belong to."
    ),
    skeleton=(
        "def mended_10(images, kept, order, batch_size):\n"
        '    """An epoch\'s batches (images, their kept logits)."""\n    ...'
    ),
    reference=paired_batches,
    alternatives=(paired_first, paired_by_counting),
    cases=batches_cases,
    hints=(
        "Take the first batch. Which row of `kept` belongs to its first image?",
        "The images were shuffled. Were the kept logits?",
        "Index both with the same `rows`.",
    ),
    misconceptions=(
        Misconception(
            "kept logits by position",
            kept_by_position,
            "the images are shuffled and the kept logits are not: targets belong to other images. The loss still "
            "falls; it falls towards the mean target",
        ),
        Misconception(
            "targets shuffled, images not",
            targets_shuffled_alone,
            "now the targets are shuffled and the images are not. It is the same mistake from the other side",
        ),
        Misconception(
            "the inverse order",
            kept_by_the_inverse,
            "you index the kept logits with the inverse of the order. Use the very same row numbers for both",
        ),
        Misconception(
            "nothing shuffled",
            not_shuffled,
            "the pairs are right, but the order is ignored: every epoch shows the same batches. That hides the "
            "symptom and costs the shuffling",
        ),
    ),
    shows="whatever is kept is looked up by image, never by place in the epoch.",
    derivation="A batch is a set of row numbers. Everything that belongs to its images is indexed with them.",
)

# --- 10.12 ------------------------------------------------------------------------------------------------------------


def reported(validation: list[float], test: list[float]) -> float:
    best = max(range(len(validation)), key=lambda epoch: validation[epoch])
    return test[best]


def reported_by_index(validation: list[float], test: list[float]) -> float:
    return test[validation.index(max(validation))]


def reported_by_tensor(validation: list[float], test: list[float]) -> float:
    wide = torch.tensor([validation, test], dtype=torch.float64)
    return wide[1, (wide[0] == wide[0].max()).nonzero()[0, 0]].item()


def best_on_test(validation: list[float], test: list[float]) -> float:
    return max(test)


def validation_reported(validation: list[float], test: list[float]) -> float:
    return max(validation)


def last_epoch(validation: list[float], test: list[float]) -> float:
    return test[-1]


def chosen_on_the_sum(validation: list[float], test: list[float]) -> float:
    sums = [one + other for one, other in zip(validation, test, strict=True)]
    return test[sums.index(max(sums))]


def reported_cases() -> list[Case]:
    return [
        case([0.7, 0.75, 0.8, 0.79], [0.74, 0.81, 0.78, 0.77]),
        case([0.9, 0.94, 0.94, 0.93, 0.92], [0.89, 0.925, 0.93, 0.94, 0.915]),
    ]


HONEST = Exercise(
    id="10.12",
    title="skill where there is none",
    question=(
        "Mend `case_12` as `mended_12(validation, test)`, two lists with an accuracy an epoch: the test accuracy to "
        "report, of the epoch that is best on validation; the earliest of equals."
    ),
    skeleton='def mended_12(validation, test):\n    """The test accuracy to report."""\n    ...',
    reference=reported,
    alternatives=(reported_by_index, reported_by_tensor),
    cases=reported_cases,
    hints=(
        "How many times was the test set looked at before one number was chosen?",
        "Choose the epoch without looking at `test`.",
        "`best = validation.index(max(validation))`, then one look at `test`.",
    ),
    misconceptions=(
        Misconception(
            "best epoch on the test set",
            best_on_test,
            "you choose the epoch on the test set. The best of many tries is lucky, and its luck is in your number. "
            "Choose on validation, report on test",
        ),
        Misconception(
            "the chosen number itself",
            validation_reported,
            "you report the validation accuracy, which was used to choose: the same luck, on the other set",
        ),
        Misconception(
            "the last epoch",
            last_epoch,
            "honest, but nothing is chosen: the last epoch need not be the best on validation",
        ),
        Misconception(
            "test helps to choose",
            chosen_on_the_sum,
            "the test set still has a say in the choice. It may have none",
        ),
    ),
    shows="what chooses may not be what reports.",
    derivation="The largest of n noisy numbers lies above their common mean, and the more so the more there are.",
)

# --- 10.14 ------------------------------------------------------------------------------------------------------------


def _trained(student: nn.Module, images: Tensor, labels: Tensor, steps: int) -> nn.Module:
    student = deepcopy(student).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for _ in range(steps):
        loss = F.cross_entropy(student(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student.eval()


def _share_right(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (student(images).argmax(dim=1) == labels).double().mean().item()


def score(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    student = _trained(student, images[:-held_out], labels[:-held_out], steps)
    return _share_right(student, images[-held_out:], labels[-held_out:])


def score_by_split(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    sizes = [len(images) - held_out, held_out]
    (seen, unseen), (seen_labels, unseen_labels) = images.split(sizes), labels.split(sizes)
    return _share_right(_trained(student, seen, seen_labels, steps), unseen, unseen_labels)


def score_by_counting(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    cut = len(labels) - held_out
    named = _trained(student, images[:cut], labels[:cut], steps)(images[cut:]).argmax(dim=1).tolist()
    return sum(guess == label for guess, label in zip(named, labels[cut:].tolist(), strict=True)) / held_out


def score_on_training_images(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    student = _trained(student, images[:-held_out], labels[:-held_out], steps)
    return _share_right(student, images[:-held_out], labels[:-held_out])


def trained_on_all(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    return _share_right(_trained(student, images, labels, steps), images[-held_out:], labels[-held_out:])


def all_for_both(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    return _share_right(_trained(student, images, labels, steps), images, labels)


def parts_swapped(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    student = _trained(student, images[-held_out:], labels[-held_out:], steps)
    return _share_right(student, images[:-held_out], labels[:-held_out])


def score_cases() -> list[Case]:
    def one(number: int, count: int, held_out: int, steps: int) -> Case:
        net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3)).double()
        with torch.no_grad():
            for place, parameter in enumerate(net.parameters()):
                parameter.copy_(draw(*parameter.shape, seed=100 * number + place, spread=0.7))
        labels = draw(count, 3, seed=number + 50).argmax(dim=1)
        return case(net, draw(count, 6, seed=number, spread=1.0), labels, held_out=held_out, steps=steps)

    return [one(1, 30, 11, 20), one(2, 45, 13, 40)]


LOTTERY = Exercise(
    id="10.14",
    title="a prophet of lots",
    question=(
        "Mend `case_14` as `mended_14(student, images, labels, *, held_out, steps)`: train a copy of the student on "
        "all images but the last `held_out`, and return its accuracy on those. The given student stays as it is."
    ),
    skeleton=(
        "def mended_14(student, images, labels, *, held_out, steps):\n"
        '    """Accuracy on the last `held_out` images, which training has not seen."""\n    ...'
    ),
    reference=score,
    alternatives=(score_by_split, score_by_counting),
    cases=score_cases,
    hints=(
        "Which images can a network name without having understood anything?",
        "The accuracy is measured on the images it was trained on.",
        "Train on `images[:-held_out]`, measure on `images[-held_out:]`, and the labels likewise.",
    ),
    misconceptions=(
        Misconception(
            "measured on the training images",
            score_on_training_images,
            "you measure on the images it was trained on. Their labels it has seen, and a network with room enough "
            "knows them by heart. Measure on images it has never seen",
        ),
        Misconception(
            "trained on all",
            trained_on_all,
            "measured on the right images, but it was trained on them, too. Held out means held out of training",
        ),
        Misconception(
            "nothing held out",
            all_for_both,
            "`held_out` has no effect: everything is trained on and everything is measured",
        ),
        Misconception(
            "the parts swapped",
            parts_swapped,
            "the two parts are swapped: you train on the held-out images and measure on the others",
        ),
    ),
    shows="knowing by heart is no knowledge: only images that training has not seen can tell.",
    derivation=(
        "Lots have no rule that could be learned, so on new images the expected accuracy is one in C. What the "
        "training images show beyond that is memory."
    ),
)

EXERCISES = (
    REDUCTION, T_SQUARED, LOG_PROBABILITIES, READS_BOTH, SAFE_LOG, LOGITS, TRAIN_MODE, OPTIMIZER, MODES, KEPT,
    REPLACED, HONEST, FAIR_ARMS, LOTTERY,
)  # fmt: skip
