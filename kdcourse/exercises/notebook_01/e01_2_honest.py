"""01.2 the score that may be reported."""

import torch

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


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


def the_epoch(validation: list[float], test: list[float]) -> float:
    return validation.index(max(validation))


def the_epoch_from_one(validation: list[float], test: list[float]) -> float:
    return validation.index(max(validation)) + 1


def worst_on_validation(validation: list[float], test: list[float]) -> float:
    return test[validation.index(min(validation))]


def tests_sorted(validation: list[float], test: list[float]) -> float:
    return sorted(test)[validation.index(max(validation))]


def roles_swapped(validation: list[float], test: list[float]) -> float:
    return validation[test.index(max(test))]


def best_sum(validation: list[float], test: list[float]) -> float:
    return max(zip(validation, test, strict=True), key=sum)[1]


def last_of_the_best(validation: list[float], test: list[float]) -> float:
    return test[max(range(len(test)), key=lambda epoch: (validation[epoch], epoch))]


def luckiest_of_the_best(validation: list[float], test: list[float]) -> float:
    return max(zip(validation, test, strict=True))[1]


def honest_cases() -> list[Case]:
    return [
        case([0.9, 0.95, 0.93], [0.92, 0.91, 0.94]),
        case([0.97, 0.98, 0.96, 0.975], [0.965, 0.962, 0.97, 0.968]),
        case([0.8, 0.91, 0.7, 0.91, 0.91, 0.85], [0.79, 0.88, 0.93, 0.9, 0.87, 0.86]),  # the best of three epochs
        case([0.9, 0.5, 0.6, 0.7], [0.71, 0.8, 0.65, 0.9]),  # the first
    ]


def drawn_scores(generator: torch.Generator) -> Case:
    epochs = integer(generator, 2, 8)
    return case(*(draw(epochs, seed=generator).sigmoid().tolist() for _ in range(2)))


EXERCISE = Exercise(
    id="01.2",
    title="the score that may be reported",
    question=(
        "After every epoch a network was measured on validation and on test. Write `my_honest_score(validation, "
        "test)` for the two lists of accuracies, one entry per epoch: return the number that may be reported. If "
        "several epochs are equally good, take the first."
    ),
    skeleton='def my_honest_score(validation, test):\n    """The accuracy that may be reported."""\n    ...',
    reference=honest_score,
    alternatives=(honest_by_sorting, honest_with_tensors),
    cases=honest_cases,
    drawn=drawn_scores,
    hints=(
        "Choosing is one thing, reporting another.",
        "Choose the epoch by the list that may be inflated. Report from the list that played no part in the choice.",
        "The epoch is `validation.index(max(validation))`. Return `test` at that epoch.",
    ),
    misconceptions=(
        Misconception(
            "best epoch picked on the test set",
            best_on_test,
            "you pick the best epoch by its test score. The maximum also selects for luck, so the number is "
            "optimistic: the test set has become a second validation set",
        ),
        Misconception(
            "the validation score reported",
            the_score_it_was_chosen_by,
            "you report the score you chose by. It is the largest of several, so it is inflated. Report the test "
            "score of the same epoch",
        ),
        Misconception(
            "the last epoch",
            last_epoch,
            "you report the last epoch. That score is not inflated, but it ignores what validation shows: choose the "
            "best epoch there",
        ),
        Misconception(
            "the mean over epochs",
            mean_over_epochs,
            "you average over epochs, so your number describes networks that nobody would use",
        ),
        Misconception(
            "the epoch instead of its score",
            the_epoch,
            "this is the epoch, counted from 0. Return the score in `test` at that epoch",
        ),
        Misconception(
            "the epoch, counted from one",
            the_epoch_from_one,
            "this is the epoch, counted from 1. Return the score in `test` at that epoch",
        ),
        Misconception(
            "the worst epoch",
            worst_on_validation,
            "you choose the epoch with the *smallest* validation score. That is right for losses; these are accuracies",
        ),
        Misconception(
            "test scores sorted",
            tests_sorted,
            "you sort the test scores, which breaks the pairs: entry k of both lists belongs to epoch k",
        ),
        Misconception(
            "the two lists swapped",
            roles_swapped,
            "you choose by test and report from validation. It must be the other way round: the test set plays no "
            "part in the choice",
        ),
        Misconception(
            "the best sum",
            best_sum,
            "you choose by the sum of both scores. Then the test set plays a part in the choice, and so does its luck",
        ),
        Misconception(
            "the last of equals",
            last_of_the_best,
            "correct if one epoch is best. Among equally good epochs you take the last; the question asks for the "
            "first",
        ),
        Misconception(
            "the luckiest of equals",
            luckiest_of_the_best,
            "correct if one epoch is best on validation. Among equally good epochs you let the test score choose: "
            "then it plays a part in the choice, and the number is optimistic. `max(zip(…))` compares the second "
            "entries of equal first ones",
        ),
    ),
    shows="a score that was used to choose cannot be reported.",
    derivation=(
        "Each score is the true accuracy plus luck. The maximum on validation includes the luck on validation. The "
        "test score of that epoch played no part in the choice, so its luck has mean zero."
    ),
)
