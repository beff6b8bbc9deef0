"""11.1 a hint through a regressor."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import table


def hint_loss(student_features: Tensor, teacher_features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    predicted = student_features @ weight.T + bias
    return (predicted - teacher_features.detach()).square().mean()


def hint_by_library(student_features: Tensor, teacher_features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.mse_loss(F.linear(student_features, weight, bias), teacher_features.detach())


def hint_row_by_row(student_features: Tensor, teacher_features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    errors = [
        ((weight @ student + bias - teacher) ** 2).mean()
        for student, teacher in zip(student_features, teacher_features.detach(), strict=True)
    ]
    return torch.stack(errors).mean()


def _error(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.linear(s, w, b) - t.detach()


def teacher_not_detached(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.mse_loss(F.linear(s, w, b), t)


def student_detached(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return hint_loss(s.detach(), t, w, b)


def regressor_detached(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return hint_loss(s, t, w.detach(), b.detach())


def prediction_detached(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.mse_loss(F.linear(s, w, b).detach(), t)


def summed(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _error(s, t, w, b).square().sum()


def mean_over_examples_only(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _error(s, t, w, b).square().sum(dim=1).mean()


def mean_over_entries_only(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _error(s, t, w, b).square().mean(dim=1).sum()


def halved(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return 0.5 * hint_loss(s, t, w, b)


def half_the_sum_over_entries(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return 0.5 * mean_over_examples_only(s, t, w, b)


def bias_forgotten(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return hint_loss(s, t, w, torch.zeros_like(b))


def weight_not_transposed(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.mse_loss(s @ w + b, t.detach())


def regressor_on_the_teacher(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.mse_loss(s, t.detach() @ w)


def length_of_the_difference(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _error(s, t, w, b).norm(dim=1).mean()


def root_of_the_mean(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return hint_loss(s, t, w, b).sqrt()


def absolute_difference(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _error(s, t, w, b).abs().mean()


def cosine_distance(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(F.linear(s, w, b), t.detach(), dim=1)).mean()


def scaled_to_length_one(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.mse_loss(F.normalize(F.linear(s, w, b), dim=1), F.normalize(t.detach(), dim=1))


def divided_by_the_students_width(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return summed(s, t, w, b) / s.numel()


def relu_after_the_regressor(s: Tensor, t: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.mse_loss(F.linear(s, w, b).relu(), t.detach())


def hint_cases() -> list[Case]:
    student, teacher = table([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]]), table([[1.0], [2.0], [-1.5]])
    square = draw(4, 3, seed=1), draw(4, 3, seed=2), draw(3, 3, seed=3), draw(3, seed=4)
    single = (draw(3, 5, seed=5), draw(3, 2, seed=6), draw(2, 5, seed=7), draw(2, seed=8))
    return [
        case(student, teacher, table([[0.5, -2.0]]), torch.tensor([0.25], dtype=torch.float64)),
        case(*square),  # equal widths: a weight that is not transposed goes unnoticed
        case(*(part.float() for part in single)),
        case(draw(1, 2, seed=9), draw(1, 4, seed=10), draw(4, 2, seed=11), draw(4, seed=12)),
    ]


def drawn_hint(g: torch.Generator) -> Case:
    count, narrow, wide = integer(g, 2, 6), integer(g, 1, 4), integer(g, 2, 6)
    student, teacher = draw(count, narrow, seed=g), draw(count, wide, seed=g)
    return case(student, teacher, draw(wide, narrow, seed=g, spread=1.0), draw(wide, seed=g))


EXERCISE = Exercise(
    id="11.1",
    title="a hint through a regressor",
    question=(
        "The student's layer has $D_s$ units, the teacher's $D_t$. A linear regressor maps one to the other. Write "
        "`my_hint_loss(student_features, teacher_features, weight, bias)` for tensors of shape $(N, D_s)$, "
        "$(N, D_t)$, $(D_t, D_s)$ and $(D_t,)$: the mean over the examples *and* the $D_t$ entries of "
        "$(W f_s + b - f_t)^2$. Student, weight and bias get a gradient; the teacher gets none."
    ),
    skeleton=(
        "def my_hint_loss(student_features, teacher_features, weight, bias):\n"
        '    """Mean squared difference of the regressed student features and the teacher\'s."""\n    ...'
    ),
    reference=hint_loss,
    alternatives=(hint_by_library, hint_row_by_row),
    cases=hint_cases,
    drawn=drawn_hint,
    hints=(
        "Which side does the regressor belong to, and which side must not move?",
        "A row is one example, so W f_s is `student_features @ weight.T`. Then add the bias.",
        "`(student_features @ weight.T + bias - teacher_features.detach()).square().mean()`.",
    ),
    misconceptions=(
        Misconception(
            "teacher not detached",
            teacher_not_detached,
            "the value is correct, but the teacher gets a gradient too: its features would move towards what the "
            "student can reach. Detach them",
        ),
        Misconception(
            "student detached",
            student_detached,
            "the value is correct, but the student gets no gradient. The regressor learns, the loss falls, and the "
            "student learns nothing from the hint",
        ),
        Misconception(
            "regressor detached",
            regressor_detached,
            "the value is correct, but weight and bias get no gradient. The regressor stays random, and the student "
            "has to fit the teacher's features as a random matrix sees them",
        ),
        Misconception(
            "the prediction detached",
            prediction_detached,
            "the value is correct, but you detach the student's side. The gradient reaches the teacher alone, and "
            "nothing that should learn does",
        ),
        Misconception(
            "summed over everything",
            summed,
            "you sum over examples and entries, so the loss grows with the batch and with the width of the layer. "
            "Take the mean over both",
        ),
        Misconception(
            "mean over examples only",
            mean_over_examples_only,
            "you sum over the entries: exactly $D_t$ times too large. Then a wider teacher layer alone makes the hint "
            "heavier. Take the mean over examples and entries",
        ),
        Misconception(
            "mean over entries only",
            mean_over_entries_only,
            "you sum over the examples: exactly N times too large, so the batch size is a hidden learning rate",
        ),
        Misconception(
            "halved",
            halved,
            "exactly half. The paper on hints has the factor 1/2; the mean that is asked for here has none",
        ),
        Misconception(
            "half the sum over the entries",
            half_the_sum_over_entries,
            "this is the paper's form: half the sum over the entries. Here the mean over the entries is asked for, "
            "without the factor 1/2, so that the weight does not depend on the width",
        ),
        Misconception(
            "bias forgotten",
            bias_forgotten,
            "you leave out the bias. Without it the regressor cannot reach a teacher whose features have another mean",
        ),
        Misconception(
            "weight not transposed",
            weight_not_transposed,
            "you multiply by the weight as it is. It has the shape (D_t, D_s), as in `nn.Linear`, so for rows it is "
            "`student_features @ weight.T`. With equal widths the mistake raises no error",
        ),
        Misconception(
            "regressor on the teacher",
            regressor_on_the_teacher,
            "you map the teacher's features to the student's width. There the loss is 0 for a student and a regressor "
            "that are both 0: map the student's features",
        ),
        Misconception(
            "the length of the difference",
            length_of_the_difference,
            "you average the lengths of the differences. Square the entries and take their mean, without a root",
        ),
        Misconception(
            "root of the mean square",
            root_of_the_mean,
            "this is the square root of the result. Its gradient no longer shrinks with the distance: leave out the "
            "root",
        ),
        Misconception(
            "absolute difference",
            absolute_difference,
            "you take absolute values instead of squares",
        ),
        Misconception(
            "cosine distance",
            cosine_distance,
            "this is a cosine distance. It ignores how large the features are; the layers after them do not",
        ),
        Misconception(
            "scaled to length 1",
            scaled_to_length_one,
            "you scale each row to length 1 first. A hint compares the features as they are, their size included",
        ),
        Misconception(
            "divided by the student's width",
            divided_by_the_students_width,
            "you divide by the student's number of entries. The difference has the teacher's: N · D_t",
        ),
        Misconception(
            "a ReLU after the regressor",
            relu_after_the_regressor,
            "you apply a ReLU to the regressor's output. The regressor is linear, and the teacher's features may be "
            "negative",
        ),
    ),
    shows="a hint trains the student and its regressor towards a teacher that does not move.",
    derivation=(
        "With e = W f_s + b - f_t, the gradient of mean e² is 2 e / (N D_t) with respect to the prediction, so Wᵀ of "
        "it reaches the student, and its product with f_s the weight. Source: Romero et al. 2015 (FitNets), "
        "arXiv:1412.6550, equation 3, which has half the sum over the entries."
    ),
    gradients=(0, 1, 2, 3),
    forbidden=("kdcourse.losses.features.hint_loss",),
)
