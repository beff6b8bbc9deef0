"""13.6 several labels at once."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def multilabel_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    student, teacher = student_logits / temperature, teacher_logits.detach() / temperature
    yes = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    no = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return temperature**2 * (yes + no).sum(dim=1).mean()


def multilabel_by_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    teacher = teacher_logits.detach() / temperature
    target = torch.sigmoid(teacher)
    cross = F.binary_cross_entropy_with_logits(student_logits / temperature, target, reduction="sum")
    entropy = F.binary_cross_entropy_with_logits(teacher, target, reduction="sum")
    return temperature**2 * (cross - entropy) / len(student_logits)


def multilabel_by_two_classes(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    pairs = [torch.stack([z, torch.zeros_like(z)], dim=-1) for z in (student_logits, teacher_logits.detach())]
    log_q, log_p = (F.log_softmax(pair / temperature, dim=-1) for pair in pairs)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


def _log_yes_no(logits: Tensor) -> tuple[Tensor, Tensor]:
    return F.logsigmoid(logits), F.logsigmoid(-logits)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of each class, for logits already divided by T."""
    (yes_s, no_s), (yes_t, no_t) = _log_yes_no(student), _log_yes_no(teacher)
    return yes_t.exp() * (yes_t - yes_s) + no_t.exp() * (no_t - no_s)


def softmax_over_classes(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    log_q, log_p = ((z / temperature).log_softmax(dim=1) for z in (s, t.detach()))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def mean_over_classes(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return multilabel_loss(s, t, temperature=temperature) / s.shape[1]


def summed_over_the_batch(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return multilabel_loss(s, t, temperature=temperature) * len(s)


def without_no(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    yes_s, yes_t = F.logsigmoid(s / temperature), F.logsigmoid(t.detach() / temperature)
    return temperature**2 * (yes_t.exp() * (yes_t - yes_s)).sum(dim=1).mean()


def without_t_squared(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return multilabel_loss(s, t, temperature=temperature) / temperature**2


def t_once(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return multilabel_loss(s, t, temperature=temperature) / temperature


def without_entropy(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    target = (t.detach() / temperature).sigmoid()
    losses = F.binary_cross_entropy_with_logits(s / temperature, target, reduction="none")
    return temperature**2 * losses.sum(dim=1).mean()


def minus_forgotten(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return -multilabel_loss(s, t, temperature=temperature)


def direction_swapped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * _divergence(t.detach() / temperature, s / temperature).sum(dim=1).mean()


def student_and_teacher_swapped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return multilabel_loss(t, s, temperature=temperature)


def not_detached(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * _divergence(s / temperature, t / temperature).sum(dim=1).mean()


def logarithm_of_sigmoid(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    q, p = (s / temperature).sigmoid(), (t.detach() / temperature).sigmoid()
    return temperature**2 * (p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())).sum(dim=1).mean()


def cross_entropy_of_probabilities(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    q, p = (s / temperature).sigmoid(), (t.detach() / temperature).sigmoid()
    losses = F.binary_cross_entropy(q, p, reduction="none") - F.binary_cross_entropy(p, p, reduction="none")
    return temperature**2 * losses.sum(dim=1).mean()


def small_number_added(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    q, p = (s / temperature).sigmoid(), (t.detach() / temperature).sigmoid()
    yes, no = p * ((p + 1e-8) / (q + 1e-8)).log(), (1 - p) * ((1 - p + 1e-8) / (1 - q + 1e-8)).log()
    return temperature**2 * (yes + no).sum(dim=1).mean()


def hard_labels(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    target = (t.detach() > 0).to(s.dtype)
    losses = F.binary_cross_entropy_with_logits(s / temperature, target, reduction="none")
    return temperature**2 * losses.sum(dim=1).mean()


def teacher_not_softened(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * _divergence(s / temperature, t.detach()).sum(dim=1).mean()


def student_not_softened(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * _divergence(s, t.detach() / temperature).sum(dim=1).mean()


def temperature_multiplied(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * _divergence(s * temperature, t.detach() * temperature).sum(dim=1).mean()


def multilabel_cases() -> list[Case]:
    student = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    far = torch.tensor([[200.0, -200.0, 3.0], [-200.0, 200.0, 0.5]], dtype=torch.float64)
    return [
        case(student, torch.tensor([[2.0, 0.3]], dtype=torch.float64), temperature=1.5),
        case(draw(3, 5, seed=60), draw(3, 5, seed=61), temperature=2.5),
        case(draw(4, 1, seed=62), draw(4, 1, seed=63), temperature=0.8),  # a single class
        case(far, far.flip(0), temperature=1.0),
        case(far, far, temperature=1.0),  # agreeing
        case(draw(5, 2, seed=64).float(), draw(5, 2, seed=65).float(), temperature=3.0),
    ]


def drawn_multilabel(g: torch.Generator) -> Case:
    shape = integer(g, 1, 5), integer(g, 1, 6)
    return case(draw(*shape, seed=g), draw(*shape, seed=g), temperature=integer(g, 5, 45) / 8.5)


EXERCISE = Exercise(
    id="13.6",
    title="several labels at once",
    question=(
        r"In one image several classes may be present, or none: each of the C logits is its own yes or no, with the "
        r"probability $\sigma(z / T)$. Write `my_multilabel_loss(student_logits, teacher_logits, *, temperature)` for "
        r"logits (N, C): $T^2 \sum_c \mathrm{KL}\left(p_c \,\|\, q_c\right)$, where $p_c$ and $q_c$ are the two "
        "distributions over yes and no, the teacher's and the student's. Return the mean over the N images as a "
        "0-dimensional tensor. The student gets a gradient, the teacher none. Value and gradient stay finite and exact "
        "for logits of ±200."
    ),
    skeleton=(
        "def my_multilabel_loss(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · the divergences of all classes, summed; the mean over images."""\n    ...'
    ),
    reference=multilabel_loss,
    alternatives=(multilabel_by_cross_entropy, multilabel_by_two_classes),
    cases=multilabel_cases,
    drawn=drawn_multilabel,
    hints=(
        "A distribution over two outcomes has two terms. Which probability does 'no' have?",
        "'No' has the probability 1 - σ(z) = σ(-z). `F.logsigmoid` gives its logarithm without passing through a "
        "probability that rounds to 0.",
        "σ(t)·(logsigmoid(t) - logsigmoid(s)) + σ(-t)·(logsigmoid(-t) - logsigmoid(-s)) with t and s divided by T; "
        "sum over classes, mean over images, times T².",
    ),
    misconceptions=(
        Misconception(
            "softmax over the classes",
            softmax_over_classes,
            "you take the softmax. Then the classes compete: one that is present takes probability from another that "
            "is present too, and 'none of them' cannot be said. Each class has its own σ",
        ),
        Misconception(
            "mean over the classes",
            mean_over_classes,
            "exactly C times too small: you average over classes as well. They are summed",
        ),
        Misconception(
            "summed over the batch",
            summed_over_the_batch,
            "exactly N times too large: you sum over the images. Take their mean",
        ),
        Misconception(
            "the no is missing",
            without_no,
            "you have only the term of 'yes'. Without 'no' this is not a divergence: it can fall below zero, and it "
            "does not stop a student that says yes to everything",
        ),
        Misconception(
            "T² is missing",
            without_t_squared,
            "T² is missing. The gradient shrinks like 1/T², so the weight of this loss would change with T",
        ),
        Misconception(
            "T once",
            t_once,
            "you multiply by T. One 1/T comes from dividing the logits, another from the probabilities that move "
            "together: T²",
        ),
        Misconception(
            "the teacher's entropy is missing",
            without_entropy,
            "the gradient is correct, the value is not: this is the cross-entropy, the divergence plus the teacher's "
            "entropy. It is not zero when both agree, so it cannot tell you how far the student is from the teacher",
        ),
        Misconception(
            "sign",
            minus_forgotten,
            "the sign is wrong: a divergence is never below zero. Minimizing yours drives the student away",
        ),
        Misconception(
            "direction",
            direction_swapped,
            "this is KL(q ‖ p): the student weights the logarithms. Here the teacher does",
        ),
        Misconception(
            "student and teacher swapped",
            student_and_teacher_swapped,
            "student and teacher are swapped: the gradient flows to the teacher, and the student never changes",
        ),
        Misconception(
            "teacher not detached",
            not_detached,
            "the value is correct, but the teacher gets a gradient too: detach it",
        ),
        Misconception(
            "logarithm of sigmoid",
            logarithm_of_sigmoid,
            "correct for small logits. σ(200) rounds to 1, so that 1 - σ is 0, its logarithm infinite and 0 · ∞ NaN. "
            "Use `F.logsigmoid(z)` and `F.logsigmoid(-z)`",
        ),
        Misconception(
            "cross-entropy of probabilities",
            cross_entropy_of_probabilities,
            "correct for small logits. `F.binary_cross_entropy` gets probabilities that have rounded to 0 or 1, and "
            "cuts their logarithms off at -100: the loss stops growing and the gradient is lost where the student is "
            "most wrong. Use the variant `_with_logits`",
        ),
        Misconception(
            "a small number added",
            small_number_added,
            "a small number inside the logarithm hides the infinity but does not cure it: the loss stops growing, and "
            "where the student is most wrong its gradient is zero. Use `F.logsigmoid`",
        ),
        Misconception(
            "hard labels",
            hard_labels,
            "you round the teacher to yes or no. What it is not confident about is lost: use σ(t / T) itself",
        ),
        Misconception(
            "teacher not softened",
            teacher_not_softened,
            "only the student is divided by T. Then the two differ even where their logits agree",
        ),
        Misconception(
            "student not softened",
            student_not_softened,
            "only the teacher is divided by T. Then the two differ even where their logits agree",
        ),
        Misconception(
            "multiplied by T",
            temperature_multiplied,
            "you multiply the logits by T, which sharpens. Divide",
        ),
    ),
    shows="labels that do not exclude each other need a yes and a no for each class, not a softmax.",
    derivation=(
        "KL = σ(t)·ln(σ(t)/σ(s)) + σ(-t)·ln(σ(-t)/σ(-s)), with logits divided by T. Its gradient with respect to s is "
        "σ(s) - σ(t). With ln σ(z) = -ln(1 + e^-z) nothing overflows. It is the two-class softmax of the logits (z, 0)."
    ),
    gradients=(0, 1),
    forbidden=("kdcourse.losses.multilabel_kd_loss",),
    absolute=1e-6,
)
