"""12.2 generations in closed form."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def generations(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    system = gram + ridge * torch.eye(len(gram), dtype=gram.dtype)
    for _ in range(rounds):
        targets = gram @ torch.linalg.solve(system, targets)
    return targets


def by_eigenvalues(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    values, vectors = torch.linalg.eigh(gram)
    kept = (values / (values + ridge)) ** rounds
    return vectors @ (kept[:, None] * (vectors.T @ targets))


def by_a_power_of_the_smoother(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    system = gram.clone()
    system.diagonal().add_(ridge)
    return torch.linalg.matrix_power(torch.linalg.inv(system) @ gram, rounds) @ targets


def shrink(gram: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """One round."""
    return generations(gram, targets, ridge, 1)


def the_labels_every_round(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    return generations(gram, targets, ridge, min(rounds, 1))


def coefficients(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    for _ in range(rounds):
        targets = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), targets)
    return targets


def coefficients_at_the_end(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    if rounds == 0:
        return targets
    return coefficients(gram, generations(gram, targets, ridge, rounds - 1), ridge, 1)


def without_ridge(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    for _ in range(rounds):
        targets = gram @ torch.linalg.pinv(gram, rtol=1e-4, hermitian=True) @ targets
    return targets


def ridge_on_every_entry(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    for _ in range(rounds):
        targets = gram @ torch.linalg.pinv(gram + ridge, rtol=1e-4, hermitian=True) @ targets
    return targets


def ridge_times_n(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    return generations(gram, targets, ridge * len(gram), rounds)


def ridge_over_n(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    return generations(gram, targets, ridge / len(gram), rounds)


def ridge_raised(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    for k in range(rounds):
        targets = shrink(gram, targets, ridge * (k + 1))
    return targets


def ridge_all_in_one(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    return generations(gram, targets, ridge * rounds, min(rounds, 1))


def gram_smoothed_too(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    for _ in range(rounds):
        targets, gram = shrink(gram, targets, ridge), shrink(gram, gram, ridge)
    return targets


def one_round_more(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    return generations(gram, targets, ridge, rounds + 1)


def one_round_less(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    return generations(gram, targets, ridge, max(rounds - 1, 0))


def residuals(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    fitted = torch.zeros_like(targets) if rounds else targets
    for _ in range(rounds):
        fitted = fitted + shrink(gram, targets - fitted, ridge)
    return fitted


def residuals_passed_on(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    for _ in range(rounds):
        targets = targets - shrink(gram, targets, ridge)
    return targets


def labels_mixed_in(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    fitted = targets
    for _ in range(rounds):
        fitted = shrink(gram, (fitted + targets) / 2, ridge)
    return fitted


def gram_for_features(gram: Tensor, targets: Tensor, ridge: float, rounds: int) -> Tensor:
    return generations(gram @ gram, targets, ridge, rounds)


def gram_of(features: Tensor) -> Tensor:
    return features @ features.T


def ridge_cases() -> list[Case]:
    small = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    return [
        case(small, labels, 0.5, 1),
        case(small, labels, 0.5, 2),
        case(small, labels, 2.0, 0),
        case(gram_of(draw(5, 2, seed=122, spread=1.0)), draw(5, 3, seed=123), 0.3, 3),  # of rank 2
        case(gram_of(draw(4, 6, seed=124, spread=1.0)).float(), draw(4, 1, seed=125).float(), 1.5, 4),
    ]


def drawn_ridge(g: torch.Generator) -> Case:
    count, classes = integer(g, 2, 6), integer(g, 1, 4)
    features = draw(count, integer(g, 1, 6), seed=g, spread=1.0)
    return case(gram_of(features), draw(count, classes, seed=g), integer(g, 1, 20) / 10, integer(g, 0, 5))


EXERCISE = Exercise(
    id="12.2",
    title="generations in closed form",
    question=(
        "For kernel ridge regression each generation of self-distillation has a closed form. Write "
        "`my_generations(gram, targets, ridge, rounds)`. `gram` is the symmetric matrix K of shape (N, N), which need "
        "not be invertible; `targets` has the shape (N, C); `ridge` is positive. In each round the fitted values K (K "
        "+ ridge · I)⁻¹ · targets become the targets of the next round; K and `ridge` stay the same. Return the "
        "fitted values after `rounds` rounds as a tensor of shape (N, C); for `rounds` = 0 the targets themselves."
    ),
    skeleton=(
        "def my_generations(gram, targets, ridge, rounds):\n"
        '    """The fitted values after some rounds of self-distillation."""\n    ...'
    ),
    reference=generations,
    alternatives=(by_eigenvalues, by_a_power_of_the_smoother),
    cases=ridge_cases,
    drawn=drawn_ridge,
    hints=(
        "What does the second generation see of the labels?",
        "One round: solve (K + ridge · I) a = targets for a; the fitted values are K a.",
        "In the loop: `targets = gram @ torch.linalg.solve(gram + ridge * torch.eye(len(gram)), targets)`. Mind the "
        "dtype of `eye`.",
    ),
    misconceptions=(
        Misconception(
            "the labels in every round",
            the_labels_every_round,
            "every round is fitted to the original targets, so that all generations equal the first. The fitted "
            "values of one round are the targets of the next",
        ),
        Misconception(
            "coefficients instead of fitted values",
            coefficients,
            "you pass on the coefficients (K + ridge · I)⁻¹ · targets. What the next generation learns from is what "
            "the model predicts: multiply by K",
        ),
        Misconception(
            "coefficients at the end",
            coefficients_at_the_end,
            "the rounds are correct, but you return the coefficients of the last one. The fitted values are K times "
            "these",
        ),
        Misconception(
            "no ridge",
            without_ridge,
            "the ridge is missing. Where K can be inverted, the fit is then perfect, and every generation repeats the "
            "labels: nothing changes from round to round",
        ),
        Misconception(
            "ridge on every entry",
            ridge_on_every_entry,
            "`gram + ridge` adds the ridge to every entry of the matrix. It belongs on the diagonal: `ridge * "
            "torch.eye(len(gram))`",
        ),
        Misconception(
            "ridge times N",
            ridge_times_n,
            "your ridge is N times too large: that is the form for a loss that is a mean over the examples. Here "
            "`ridge` itself is added",
        ),
        Misconception(
            "ridge divided by N",
            ridge_over_n,
            "your ridge is N times too small. Here `ridge` itself is added to the diagonal",
        ),
        Misconception(
            "a larger ridge in each round",
            ridge_raised,
            "you raise the ridge from round to round. It stays the same: the model gets simpler because it is fitted "
            "to its own predictions",
        ),
        Misconception(
            "one fit with a larger ridge",
            ridge_all_in_one,
            "you fit once, with `rounds` times the ridge. That also regularizes more, but it is another function: λ / "
            "(λ + t · ridge) is not (λ / (λ + ridge)) to the power t",
        ),
        Misconception(
            "the kernel smoothed as well",
            gram_smoothed_too,
            "you replace K by its fitted values in each round. Only the targets change; the model, and so K, is the "
            "same in each generation",
        ),
        Misconception(
            "a round too many",
            one_round_more,
            "you fit once more than `rounds` says: after 0 rounds the targets are unchanged",
        ),
        Misconception(
            "a round too few",
            one_round_less,
            "you fit once less than `rounds` says: after 1 round the result is the ordinary ridge fit",
        ),
        Misconception(
            "residuals added up",
            residuals,
            "each of your rounds fits what is left of the labels and adds it. That is boosting, which regularizes "
            "*less* with every round; self-distillation fits the fitted values",
        ),
        Misconception(
            "residuals passed on",
            residuals_passed_on,
            "you pass on what the fit leaves over. The next generation learns from the fit itself",
        ),
        Misconception(
            "labels mixed in",
            labels_mixed_in,
            "you mix the labels into the targets of every round. With labels the rounds converge to a ridge fit; here "
            "the next generation sees the fitted values alone",
        ),
        Misconception(
            "K taken for features",
            gram_for_features,
            "you use K² + ridge · I, as if K were a matrix of features. K already contains the inner products",
        ),
    ),
    shows="each generation shrinks the directions with small eigenvalues further: more rounds, more regularization.",
    derivation=(
        "With K = V diag(λ) Vᵀ one round multiplies the k-th component of the targets by λₖ / (λₖ + ridge), t rounds "
        "by the t-th power of it. All factors are below 1, and the small eigenvalues' fall fastest: the model gets "
        "simpler, and in the end it underfits."
    ),
    relative=1e-4,
    absolute=1e-6,
)
