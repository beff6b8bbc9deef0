"""01.2 the score that may be reported."""

import torch

from ..engine.core import Case, Exercise, Misconception, case


def honest_score(validation: list[float], test: list[float]) -> float:
    return test[validation.index(max(validation))]


def honest_by_sorting(validation: list[float], test: list[float]) -> float:
    return max(zip(validation, test, strict=True), key=lambda pair: pair[0])[1]


def honest_with_tensors(validation: list[float], test: list[float]) -> float:
    return float(torch.tensor(test, dtype=torch.float64)[torch.tensor(validation).argmax()])


def best_on_test(validation: list[float], test: list[float]) -> float:
    return max(test)


def the_score_it_was_chosen_by(validation: list[float], test: list[float]) -> float:
    return max(validation)


def last_epoch(validation: list[float], test: list[float]) -> float:
    return test[-1]


def mean_over_epochs(validation: list[float], test: list[float]) -> float:
    return sum(test) / len(test)


def honest_cases() -> list[Case]:
    return [case([0.9, 0.95, 0.93], [0.92, 0.91, 0.94]), case([0.97, 0.98, 0.96, 0.975], [0.965, 0.962, 0.97, 0.968])]


EXERCISE = Exercise(
    id="01.2",
    title="the score that may be reported",
    question=(
        "After every epoch a network was measured on validation and on test. Write "
        "`my_honest_score(validation, test)`, "
        "two lists of accuracies, one entry an epoch: return the number that may be reported."
    ),
    skeleton='def my_honest_score(validation, test):\n    """The accuracy that may be reported."""\n    ...',
    reference=honest_score,
    alternatives=(honest_by_sorting, honest_with_tensors),
    cases=honest_cases,
    hints=(
        "Choosing is one thing, reporting another.",
        "Choose the epoch by the list that may flatter you. Report from the list that took no part in the choice.",
        "The epoch is `validation.index(max(validation))`. Return `test` at that epoch.",
    ),
    misconceptions=(
        Misconception(
            "best epoch picked on the test set",
            best_on_test,
            "you pick the best epoch by its test score. The maximum picks out the luck too, so the number is "
            "optimistic: test has become a second validation set",
        ),
        Misconception(
            "the validation score reported",
            the_score_it_was_chosen_by,
            "you report the very score you chose by. It is the largest of several, so it flatters. Report the test "
            "score of the same epoch",
        ),
        Misconception(
            "the last epoch",
            last_epoch,
            "you report the last epoch. That is honest, but it throws away what validation told: choose the best there",
        ),
        Misconception(
            "the mean over epochs",
            mean_over_epochs,
            "you average over epochs, and so report networks that nobody would use",
        ),
    ),
    shows="what was chosen by a score cannot be reported by it.",
    derivation=(
        "Each score is truth plus luck. The maximum of validation contains the luck of validation. The test score of "
        "that epoch took no part in the choice, so its luck has mean zero."
    ),
)
