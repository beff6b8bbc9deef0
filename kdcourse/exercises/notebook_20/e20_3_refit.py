"""20.3 a temperature for a network that was compressed."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Refit = tuple[float, Tensor]


def refit(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    best = min(temperatures, key=lambda t: F.cross_entropy(logits / t, labels).item())
    return best, test_logits / best


def refit_by_hand(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    best, least = temperatures[0], float("inf")
    for temperature in temperatures:
        log_p = (logits / temperature).log_softmax(dim=1)
        loss = -log_p[torch.arange(len(labels)), labels].mean().item()
        if loss < least:
            best, least = temperature, loss
    return best, test_logits / best


def refit_together(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    grid = torch.tensor(temperatures)
    log_p = (logits / grid[:, None, None]).log_softmax(dim=-1)  # (T, N, C)
    chosen = log_p[:, torch.arange(len(labels)), labels].sum(dim=1)
    best = temperatures[int((chosen == chosen.max()).int().argmax())]
    return best, test_logits / best


def multiplied(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    best = min(temperatures, key=lambda t: F.cross_entropy(logits * t, labels).item())
    return best, test_logits * best


def chosen_divided_multiplied_back(
    logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]
) -> Refit:
    best, _ = refit(logits, labels, test_logits, temperatures)
    return best, test_logits * best


def by_accuracy(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    best = max(temperatures, key=lambda t: ((logits / t).argmax(dim=1) == labels).sum().item())
    return best, test_logits / best


def largest_loss(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    best = max(temperatures, key=lambda t: F.cross_entropy(logits / t, labels).item())
    return best, test_logits / best


def as_probabilities(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    best, scaled = refit(logits, labels, test_logits, temperatures)
    return best, scaled.softmax(dim=1)


def own_predictions(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    best = min(temperatures, key=lambda t: F.cross_entropy(logits / t, logits.argmax(dim=1)).item())
    return best, test_logits / best


def probabilities_into_the_loss(
    logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]
) -> Refit:
    best = min(temperatures, key=lambda t: F.cross_entropy((logits / t).softmax(dim=1), labels).item())
    return best, test_logits / best


def by_mean_confidence(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    right = (logits.argmax(dim=1) == labels).double().mean().item()
    best = min(temperatures, key=lambda t: abs((logits / t).softmax(dim=1).amax(dim=1).mean().item() - right))
    return best, test_logits / best


def validation_returned(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    best, _ = refit(logits, labels, test_logits, temperatures)
    return best, logits / best


def test_left_as_it_is(logits: Tensor, labels: Tensor, test_logits: Tensor, temperatures: Sequence[float]) -> Refit:
    return refit(logits, labels, test_logits, temperatures)[0], test_logits


GRID = (0.25, 0.5, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0, 4.5, 7.0)


def _validation(seed: int | torch.Generator, count: int, classes: int, scale: float) -> tuple[Tensor, Tensor]:
    """Logits whose best temperature is about ``scale``: labels are drawn from their softmax before scaling."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    true = draw(count, classes, seed=generator, spread=2.0)
    labels = torch.multinomial(true.softmax(dim=1), 1, generator=generator).flatten()
    return scale * true, labels


def refit_cases() -> list[Case]:
    found = []
    for number, (count, classes, scale) in enumerate(((60, 3, 3.0), (80, 4, 0.5), (50, 5, 1.6), (70, 2, 6.0))):
        logits, labels = _validation(number, count, classes, scale)
        test = draw(7, classes, seed=40 + number, spread=2.0 * scale)
        found.append(case(logits, labels, test, list(GRID) if number % 2 else list(reversed(GRID))))
    logits, labels = _validation(9, 40, 4, 2.0)
    found.append(case(logits.float(), labels, draw(3, 4, seed=50).float(), [1.0, 2.0, 3.0]))
    found.append(case(logits, labels, draw(3, 4, seed=51), [2.5]))
    flat = torch.zeros(6, 3, dtype=torch.float64)  # every temperature fits equally
    found.append(case(flat, torch.tensor([0, 1, 2, 2, 1, 0]), draw(2, 3, seed=52), [3.0, 1.0, 2.0]))
    return found


def drawn_refit(g: torch.Generator) -> Case:
    classes, scale = integer(g, 2, 6), integer(g, 4, 50) / 10
    logits, labels = _validation(g, integer(g, 30, 80), classes, scale)
    return case(logits, labels, draw(integer(g, 2, 6), classes, seed=g, spread=2 * scale), list(GRID))


EXERCISE = Exercise(
    id="20.3",
    title="a temperature for a network that was compressed",
    question=(
        "Write `my_refit(logits, labels, test_logits, temperatures)`. `logits` (N, C) and `labels` (N,) are of the "
        "validation images, `test_logits` (M, C) of the test images, `temperatures` is a sequence of numbers above 0. "
        "Choose the temperature T for which the mean cross-entropy of `logits / T` with the labels is least, the "
        "first of equals. Return `(T, test_logits / T)`."
    ),
    skeleton=(
        "def my_refit(logits, labels, test_logits, temperatures):\n"
        '    """The temperature that fits validation, and the test logits divided by it."""\n    ...'
    ),
    reference=refit,
    alternatives=(refit_by_hand, refit_together),
    cases=refit_cases,
    drawn=drawn_refit,
    hints=(
        "Dividing by T changes no prediction. Which measure notices that the confidence is right?",
        "For every temperature the cross-entropy on validation; take the least.",
        "`min(temperatures, key=lambda t: F.cross_entropy(logits / t, labels).item())`, then divide the test logits.",
    ),
    misconceptions=(
        Misconception(
            "multiplied",
            multiplied,
            "you multiply by the temperature, both times. The logits are divided by T: a T above 1 lowers the "
            "confidence",
        ),
        Misconception(
            "divided, then multiplied",
            chosen_divided_multiplied_back,
            "T is right, but the test logits are multiplied by it: an overconfident network gets even more confident",
        ),
        Misconception(
            "by accuracy",
            by_accuracy,
            "you choose by accuracy. No T changes the largest logit, so all are equal and the first one wins",
        ),
        Misconception(
            "the largest loss",
            largest_loss,
            "you choose the temperature with the *largest* cross-entropy",
        ),
        Misconception(
            "probabilities",
            as_probabilities,
            "T is right, but you return probabilities. Return the logits divided by T",
        ),
        Misconception(
            "the smallest temperature",
            own_predictions,
            "you take the smallest temperature, whatever the labels are. That happens when the network's own "
            "predictions are used for labels, on validation or on test: with itself it always agrees. It also happens "
            "with a factor T², which belongs to the distillation loss",
        ),
        Misconception(
            "softmax twice",
            probabilities_into_the_loss,
            "you give probabilities to `F.cross_entropy`, which applies softmax again",
        ),
        Misconception(
            "mean confidence equals accuracy",
            by_mean_confidence,
            "you make the mean confidence equal to the accuracy. That is another rule: it does not look at which image "
            "is confident. The question asks for the least cross-entropy",
        ),
        Misconception(
            "validation logits returned",
            validation_returned,
            "T is right, but you return the *validation* logits divided by it",
        ),
        Misconception(
            "test logits unchanged",
            test_left_as_it_is,
            "T is right, but the test logits are returned as they were",
        ),
    ),
    shows="one number fitted on validation can repair what compression did to the confidence.",
    derivation=(
        "The cross-entropy of z / T is convex in 1 / T, so it has one minimum. At the minimum the mean logit of the "
        "label equals the mean of the logits under softmax(z / T): the network is then, on average, as confident as it "
        "should be."
    ),
)
