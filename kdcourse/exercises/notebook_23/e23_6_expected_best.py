"""23.6 the winner's curse: the best public score among equally good entries."""

import math

import numpy as np
import torch
from scipy.stats import binom

from ..engine.core import Case, Exercise, Misconception, case, integer


def expected_best(accuracy: float, images: int, tries: int) -> float:
    at_most = before = mean = 0.0
    for right in range(images + 1):
        at_most += math.comb(images, right) * accuracy**right * (1 - accuracy) ** (images - right)
        all_at_most = at_most**tries  # none of the entries has more
        mean += right / images * (all_at_most - before)
        before = all_at_most
    return mean


def best_by_scipy(accuracy: float, images: int, tries: int) -> float:
    counts = np.arange(images + 1)
    probabilities = np.diff(binom.cdf(counts, images, accuracy) ** tries, prepend=0.0)
    return float(counts @ probabilities / images)


def best_by_tails(accuracy: float, images: int, tries: int) -> float:
    # a mean of counts is the sum over r of the probability that it exceeds r
    return sum(1 - float(binom.cdf(right, images, accuracy)) ** tries for right in range(images)) / images


def best_by_tables(accuracy: float, images: int, tries: int) -> float:
    row = torch.ones(1, dtype=torch.float64)  # how many of the first images are right
    for _ in range(images):
        hit = torch.cat([torch.zeros(1, dtype=torch.float64), row * accuracy])
        row = hit + torch.cat([row * (1 - accuracy), torch.zeros(1, dtype=torch.float64)])
    return float(1 - (row.cumsum(0)[:-1] ** tries).mean())


def _counts(images: int) -> np.ndarray:
    return np.arange(images + 1)


def _cdf(accuracy: float, images: int) -> np.ndarray:
    return binom.cdf(_counts(images), images, accuracy)


def _mean(images: int, distribution: np.ndarray) -> float:
    return float(_counts(images) @ np.diff(distribution, prepend=0.0)) / images


def accuracy_itself(accuracy: float, images: int, tries: int) -> float:
    return accuracy


def no_differences(accuracy: float, images: int, tries: int) -> float:
    return float(_counts(images) @ _cdf(accuracy, images) ** tries) / images


def powers_of_single_counts(accuracy: float, images: int, tries: int) -> float:
    return float(_counts(images) @ binom.pmf(_counts(images), images, accuracy) ** tries) / images


def one_try_fewer(accuracy: float, images: int, tries: int) -> float:
    return expected_best(accuracy, images, tries - 1) if tries > 1 else accuracy


def one_try_more(accuracy: float, images: int, tries: int) -> float:
    return expected_best(accuracy, images, tries + 1)


def tries_times(accuracy: float, images: int, tries: int) -> float:
    return _mean(images, tries * _cdf(accuracy, images))


def the_worst(accuracy: float, images: int, tries: int) -> float:
    return _mean(images, 1 - (1 - _cdf(accuracy, images)) ** tries)


def below_instead(accuracy: float, images: int, tries: int) -> float:
    return _mean(images, binom.cdf(_counts(images) - 1, images, accuracy) ** tries)


def number_of_images(accuracy: float, images: int, tries: int) -> float:
    return expected_best(accuracy, images, tries) * images


def too_high_by(accuracy: float, images: int, tries: int) -> float:
    return expected_best(accuracy, images, tries) - accuracy


def percent(accuracy: float, images: int, tries: int) -> float:
    return 100 * expected_best(accuracy, images, tries)


def normal_extreme(accuracy: float, images: int, tries: int) -> float:
    error = math.sqrt(accuracy * (1 - accuracy) / images)
    return accuracy + error * math.sqrt(2 * math.log(tries))


def upper_end(accuracy: float, images: int, tries: int) -> float:
    return accuracy + 1.96 * math.sqrt(accuracy * (1 - accuracy) / images)


def more_images(accuracy: float, images: int, tries: int) -> float:
    """All entries as one, on tries times as many images: that mean is the accuracy; its best is not asked."""
    return expected_best(accuracy, images * tries, tries)


def median_of_the_best(accuracy: float, images: int, tries: int) -> float:
    return float(binom.ppf(0.5 ** (1 / tries), images, accuracy)) / images


def likeliest_best(accuracy: float, images: int, tries: int) -> float:
    return float(np.diff(_cdf(accuracy, images) ** tries, prepend=0.0).argmax()) / images


def any_entry_right(accuracy: float, images: int, tries: int) -> float:
    return 1 - (1 - accuracy) ** tries


def all_entries_right(accuracy: float, images: int, tries: int) -> float:
    return accuracy**tries


def simulated(accuracy: float, images: int, tries: int) -> float:
    return float(np.random.default_rng(0).binomial(images, accuracy, (2000, tries)).max(axis=1).mean()) / images


def best_cases() -> list[Case]:
    numbers = [
        (0.75, 4, 2), (0.9, 10, 3), (0.5, 1, 4), (0.3, 7, 1), (0.97, 60, 20), (0.98, 250, 50), (0.2, 5, 6),
        (0.6, 30, 300), (1.0, 6, 3),
    ]  # fmt: skip
    return [case(*each) for each in numbers]


def drawn_best(g: torch.Generator) -> Case:
    return case(integer(g, 30, 99) / 100, integer(g, 3, 60), integer(g, 2, 40))


EXERCISE = Exercise(
    id="23.6",
    title="the best of many equal entries",
    question=(
        "`tries` entries are equally good: each predicts an image correctly with probability `accuracy`, all "
        "independently, and each has a public score, the fraction that it has right of `images` public images. Write "
        "`my_best(accuracy, images, tries)`: the expected value of the *best* of these public scores, as a float "
        "between 0 and 1. It is the sum over r of r / `images` times the probability that the best entry has exactly r "
        "right. Compute it from the binomial distribution (`math.comb`, or `scipy.stats.binom`), not by simulation."
    ),
    skeleton=(
        "def my_best(accuracy, images, tries):\n"
        '    """Expected best public score among equally good entries."""\n    ...'
    ),
    reference=expected_best,
    alternatives=(best_by_scipy, best_by_tails, best_by_tables),
    cases=best_cases,
    drawn=drawn_best,
    hints=(
        "When has the best entry at most r right? When all of them have.",
        "With F(r) the probability that one entry has at most r right, the best has at most r with F(r) to the power "
        "`tries`.",
        "Exactly r: `F(r)**tries - F(r - 1)**tries`, with F(-1) = 0. Multiply by r / `images` and sum over r from 0 to "
        "`images`.",
    ),
    misconceptions=(
        Misconception(
            "the accuracy itself",
            accuracy_itself,
            "this is the expected score of one entry that was chosen *before* its score was seen. The best score is "
            "chosen because it is high",
        ),
        Misconception(
            "no differences",
            no_differences,
            "F(r) to the power of `tries` is the probability of *at most* r. Subtract that of at most r - 1 before you "
            "multiply by r",
        ),
        Misconception(
            "powers of single counts",
            powers_of_single_counts,
            "you raise the probability of exactly r to the power: that all entries have the *same* r. The best has at "
            "most r if all have at most r",
        ),
        Misconception(
            "one try too few",
            one_try_fewer,
            "your power is one too small: all `tries` entries must have at most r",
        ),
        Misconception(
            "one try too many",
            one_try_more,
            "your power is one too large: there are `tries` entries, not one more",
        ),
        Misconception(
            "times the tries",
            tries_times,
            "you multiply the distribution by `tries`. Independent events that all happen multiply: a power",
        ),
        Misconception(
            "the worst entry",
            the_worst,
            "this is the expected *worst* score: 1 - (1 - F) to the power is its distribution. For the best take the "
            "power of F",
        ),
        Misconception(
            "fewer than r",
            below_instead,
            "your F(r) is the probability of *fewer* than r. Of at most r: r is included",
        ),
        Misconception(
            "a number of images",
            number_of_images,
            "this is a number of images. A score is a fraction: divide by `images`",
        ),
        Misconception(
            "too high by",
            too_high_by,
            "this is by how much the best score is too high. The question asks for the score",
        ),
        Misconception("percent", percent, "these are percent. The question asks for a value between 0 and 1"),
        Misconception(
            "the normal extreme",
            normal_extreme,
            "√(2 ln k) standard errors is an approximation for many normal values. Scores have an end at 1, and it can "
            "lie above that",
        ),
        Misconception(
            "the upper end of an interval",
            upper_end,
            "this is 1.96 standard errors above the accuracy, whatever the number of entries is. With more entries the "
            "best one is higher",
        ),
        Misconception(
            "more images",
            more_images,
            "you multiply the images by the tries. Each entry has its own score on the same number of images",
        ),
        Misconception(
            "the median",
            median_of_the_best,
            "this is the median of the best score. The question asks for the expected value",
        ),
        Misconception(
            "the most probable",
            likeliest_best,
            "this is the most probable best score. The question asks for the expected value",
        ),
        Misconception(
            "any entry right on an image",
            any_entry_right,
            "this is the probability that at least one entry has an image right. The best score is that of *one* entry "
            "on all images",
        ),
        Misconception(
            "all entries right on an image",
            all_entries_right,
            "this is the probability that all entries have an image right. The best score is that of *one* entry on "
            "all images",
        ),
        Misconception(
            "simulated",
            simulated,
            "this is a simulation: close, with an error of its own. Sum the exact probabilities",
        ),
    ),
    shows="the best of many public scores is too high even if no entry is better than another: the winner's curse.",
    derivation=(
        "With M the largest of k independent counts, P(M ≤ r) = F(r)^k, so P(M = r) = F(r)^k - F(r - 1)^k. Summed by "
        "parts, E[M] = Σ P(M > r) = Σ (1 - F(r)^k) over r from 0 to n - 1. For k = 1 this is n p; it grows with k and "
        "has the limit n."
    ),
)
