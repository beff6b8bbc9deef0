"""13.3 how far an accuracy can be off."""

import math

import torch
from scipy import stats

from ..engine.core import Case, Exercise, Misconception, case, integer, refusal


def margin(accuracy: float, count: int) -> float:
    if count < 1:
        raise ValueError(f"at least one image is needed, not {count}")
    if not 0 <= accuracy <= 1:
        raise ValueError(f"an accuracy lies between 0 and 1, {accuracy} does not")
    return 1.96 * math.sqrt(accuracy * (1 - accuracy) / count)


def margin_by_quantile(accuracy: float, count: int) -> float:
    if count < 1 or accuracy < 0 or accuracy > 1:
        raise ValueError("count must be at least 1, accuracy between 0 and 1")
    spread = (accuracy - accuracy**2) ** 0.5
    return float(stats.norm.ppf(0.975)) * spread / count**0.5


def margin_with_tensors(accuracy: float, count: int) -> float:
    if count <= 0 or not 0 <= accuracy <= 1:
        raise ValueError("not an accuracy measured on images")
    a = torch.tensor(accuracy, dtype=torch.float64)
    return ((1.96**2) * a * (1 - a) / count).sqrt().item()


def root_missing(accuracy: float, count: int) -> float:
    return 1.96 * margin(accuracy, count) ** 2 / 1.96**2


def ninety_percent(accuracy: float, count: int) -> float:
    return margin(accuracy, count) / 1.96 * 1.645


def ninety_percent_rounded(accuracy: float, count: int) -> float:
    return margin(accuracy, count) / 1.96 * 1.64


def one_standard_error(accuracy: float, count: int) -> float:
    return margin(accuracy, count) / 1.96


def two_standard_errors(accuracy: float, count: int) -> float:
    return margin(accuracy, count) / 1.96 * 2


def whole_width(accuracy: float, count: int) -> float:
    return 2 * margin(accuracy, count)


def in_percent(accuracy: float, count: int) -> float:
    return 100 * margin(accuracy, count)


def one_less(accuracy: float, count: int) -> float:
    return margin(accuracy, count) * math.sqrt(count / (count - 1)) if count > 1 else 0.0


def not_divided(accuracy: float, count: int) -> float:
    return margin(accuracy, count) * math.sqrt(count)


def divided_outside(accuracy: float, count: int) -> float:
    return margin(accuracy, count) / math.sqrt(count)


def worst_case(accuracy: float, count: int) -> float:
    return margin(0 * margin(accuracy, count) + 0.5, count)


def product_missing(accuracy: float, count: int) -> float:
    return margin(accuracy, count) * 0 + 1.96 * math.sqrt(accuracy / count)


def lower_end(accuracy: float, count: int) -> float:
    return accuracy - margin(accuracy, count)


def accepts_anything(accuracy: float, count: int) -> float:
    spread = abs(accuracy * (1 - accuracy))
    return 1.96 * math.sqrt(spread / abs(count)) if count else 0.0


def margin_cases() -> list[Case]:
    return [
        case(0.9, 500),
        case(0.97, 1000),
        case(0.5, 1),
        case(0.8, 20),
        case(0.0, 100),
        case(1.0, 7),
        refusal("a count of 0", 0.9, 0),
        refusal("a count below 0", 0.9, -20),
        refusal("an accuracy in percent", 97.0, 100),
        refusal("an accuracy just above 1", 1.001, 100),
        refusal("an accuracy below 0", -0.01, 100),
    ]


EXERCISE = Exercise(
    id="13.3",
    title="how far an accuracy can be off",
    question=(
        "A network was right on the fraction `accuracy` of `count` test images. Write `my_margin(accuracy, count)`: "
        "half the width of the 95 % interval from the normal approximation, 1.96 standard errors, as a fraction. "
        "Raise a `ValueError` if `count` is below 1 or `accuracy` lies outside 0 to 1 (both ends are allowed)."
    ),
    skeleton='def my_margin(accuracy, count):\n    """Half the width of the 95 % interval of an accuracy."""\n    ...',
    reference=margin,
    alternatives=(margin_by_quantile, margin_with_tensors),
    cases=margin_cases,
    drawn=lambda g: case(integer(g, 1, 99) / 100, integer(g, 2, 3000)),
    hints=(
        "Each image is right or wrong: what is the variance of such a number? And of the mean of n of them?",
        "The variance of one image is a (1 - a), of the mean a (1 - a) / n. The standard error is its square root.",
        "`1.96 * math.sqrt(accuracy * (1 - accuracy) / count)`, after the two refusals.",
    ),
    misconceptions=(
        Misconception(
            "the square root is missing",
            root_missing,
            "this is 1.96 times the *variance*. A margin has the unit of the accuracy, so it needs the square root",
        ),
        Misconception(
            "1.645 for 1.96",
            ninety_percent,
            "1.645 standard errors give 90 %, or 95 % on one side only. Two-sided 95 % needs 1.96",
        ),
        Misconception(
            "1.64 for 1.96",
            ninety_percent_rounded,
            "1.64 standard errors give 90 %, or 95 % on one side only. Two-sided 95 % needs 1.96",
        ),
        Misconception(
            "one standard error",
            one_standard_error,
            "this is one standard error, an interval of 68 %. For 95 % multiply by 1.96",
        ),
        Misconception(
            "two standard errors",
            two_standard_errors,
            "you round 1.96 to 2. That is good enough in the head; the question asks for 1.96",
        ),
        Misconception(
            "the whole width",
            whole_width,
            "this is the whole width of the interval, from its lower to its upper end. The margin is half of it: "
            "accuracy ± margin",
        ),
        Misconception(
            "in percent",
            in_percent,
            "this is in percentage points. The accuracy is a fraction, and so is its margin",
        ),
        Misconception(
            "n - 1",
            one_less,
            "you divide by n - 1. That corrects a variance estimated around an estimated mean; here the variance "
            "a (1 - a) follows from the accuracy, and it is divided by n. With one image you would divide by 0",
        ),
        Misconception(
            "not divided by n",
            not_divided,
            "this is 1.96 standard deviations of *one* image, right or wrong. The mean of n images varies less: "
            "divide the variance by n",
        ),
        Misconception(
            "n outside the root",
            divided_outside,
            "you divide by n outside the root. Four times as many images halve the margin, they do not quarter it: "
            "it falls with √n",
        ),
        Misconception(
            "the largest margin",
            worst_case,
            "this is the margin of an accuracy of 0.5, the largest there is. It does not depend on the accuracy: near "
            "1 the margin is much smaller",
        ),
        Misconception(
            "1 - a is missing",
            product_missing,
            "you use a instead of a (1 - a). The variance of a number that is 1 with probability a and else 0 is "
            "a - a²",
        ),
        Misconception(
            "the lower end",
            lower_end,
            "this is the lower end of the interval. Return the margin alone",
        ),
    ),
    shows="with n images a difference below about 1/√n can be luck.",
    derivation=(
        "One image is right with probability a: mean a, variance a (1 - a). The mean of n independent images has the "
        "variance a (1 - a) / n. 95 % of a normal distribution lie within 1.96 standard deviations."
    ),
    relative=1e-4,  # 1.96 or 1.95996
)
