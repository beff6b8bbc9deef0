"""10.12 skill where there is none."""

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer


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


def last_of_equals(validation: list[float], test: list[float]) -> float:
    return test[len(validation) - 1 - validation[::-1].index(max(validation))]


def epoch_for_accuracy(validation: list[float], test: list[float]) -> float:
    return validation.index(max(validation))


def drawn_report(g: torch.Generator) -> Case:
    count = integer(g, 1, 8)
    validation, test = [[integer(g, 10, 20) / 20 for _ in range(count)] for _ in range(2)]
    return case(validation, test)


EXERCISE = Exercise(
    id="10.12",
    title="skill where there is none",
    question=(
        "Fix `case_12` as `fixed_12(validation, test)`, two lists with one accuracy per epoch: choose the best "
        "epoch, the earliest of equals, and return its test accuracy. If all predictions are random guesses among "
        "ten classes, the result must be 0.1 on average, however many epochs there are."
    ),
    skeleton='def fixed_12(validation, test):\n    """The test accuracy to report."""\n    ...',
    reference=reported,
    alternatives=(reported_by_index, reported_by_tensor),
    cases=reported_cases,
    drawn=drawn_report,
    hints=(
        "How often was the test set used before one number was chosen?",
        "Choose the epoch without looking at `test`.",
        "`best = validation.index(max(validation))`, then one look at `test`.",
    ),
    misconceptions=(
        Misconception(
            "best epoch on the test set",
            best_on_test,
            "you choose the epoch on the test set. The best of many tries is lucky, and your number includes the luck. "
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
            "unbiased, but nothing is chosen: the last epoch need not be the best on validation",
        ),
        Misconception(
            "test helps to choose",
            chosen_on_the_sum,
            "the test set still influences the choice. It must not",
        ),
        Misconception(
            "the last of equals",
            last_of_equals,
            "the choice is fair, but of equal epochs you take the last: take the earliest",
        ),
        Misconception(
            "the epoch for its accuracy",
            epoch_for_accuracy,
            "the epoch is right, but you return its index: return its test accuracy",
        ),
    ),
    shows="data used to choose cannot be used to report.",
    derivation="The largest of n noisy numbers is above their common mean, and more so the more there are.",
)
