"""08.5 how many times as fast."""

from statistics import fmean, median, median_high, median_low

import torch

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .wrong_08_5 import WRONG, Call


def speedup(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    medians = []
    for calls in (baseline, candidate):
        times = [milliseconds / images for used, images, milliseconds in calls if used == threads]
        medians.append(median(times[warm_up:]))
    return medians[0] / medians[1]


def speedup_by_tensors(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    def typical(calls: list[Call]) -> float:
        used, images, milliseconds = torch.tensor(calls, dtype=torch.float64).T
        chosen = (milliseconds / images)[used == threads]
        return chosen[warm_up:].quantile(0.5).item()

    return typical(baseline) / typical(candidate)


def speedup_by_throughput(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    middle = []
    for calls in (candidate, baseline):
        times = sorted([one for one in calls if one[0] == threads][warm_up:], key=lambda one: one[2] / one[1])
        pair = times[(len(times) - 1) // 2], times[len(times) // 2]
        middle.append(1 / fmean(milliseconds / images for _, images, milliseconds in pair))
    return middle[0] / middle[1]


def _times(calls: list[Call], warm_up: int, threads: int) -> list[float]:
    """Milliseconds an image of the calls that count."""
    return [milliseconds / images for used, images, milliseconds in calls if used == threads][warm_up:]


def first_calls_counted(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median(_times(baseline, 0, threads)) / median(_times(candidate, 0, threads))


def warm_up_of_the_list(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median(_times(baseline[warm_up:], 0, threads)) / median(_times(candidate[warm_up:], 0, threads))


def means_of_times(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return fmean(_times(baseline, warm_up, threads)) / fmean(_times(candidate, warm_up, threads))


def upside_down(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median(_times(candidate, warm_up, threads)) / median(_times(baseline, warm_up, threads))


def best_against_median(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median(_times(baseline, warm_up, threads)) / min(_times(candidate, warm_up, threads))


def best_of_both(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return min(_times(baseline, warm_up, threads)) / min(_times(candidate, warm_up, threads))


def more_threads_for_one(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    most = max(used for used, _, _ in candidate)
    return median(_times(baseline, warm_up, threads)) / median(_times(candidate, warm_up, most))


def threads_mixed(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    times = [[milliseconds / images for _, images, milliseconds in calls] for calls in (baseline, candidate)]
    return median(times[0][warm_up:]) / median(times[1][warm_up:])


def unlike_work(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    times = [[milliseconds for used, _, milliseconds in calls if used == threads] for calls in (baseline, candidate)]
    return median(times[0][warm_up:]) / median(times[1][warm_up:])


def lower_medians(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median_low(_times(baseline, warm_up, threads)) / median_low(_times(candidate, warm_up, threads))


def upper_medians(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median_high(_times(baseline, warm_up, threads)) / median_high(_times(candidate, warm_up, threads))


def _calls(threads: int, images: int, *times: float) -> list[Call]:
    return [(threads, images, milliseconds) for milliseconds in times]


def speedup_cases() -> list[Case]:
    return [
        case(_calls(1, 1, 9.0, 4.0, 4.4, 5.6), _calls(1, 1, 8.0, 2.0, 2.3, 1.9), warm_up=1, threads=1),
        case(
            [*_calls(1, 64, 61.0, 25.4, 25.9, 25.1, 48.7, 25.6), *_calls(4, 64, 19.6, 8.8, 9.2, 8.3, 8.5, 8.1)],
            [*_calls(4, 16, 7.7, 1.4, 1.2, 1.3, 2.9), *_calls(1, 16, 15.0, 5.3, 3.4, 9.9, 3.1, 3.2)],
            warm_up=2,
            threads=1,
        ),
        case(
            [*_calls(1, 8, 7.0, 5.4), *_calls(2, 8, 5.9, 3.3, 3.1, 3.8, 3.2), *_calls(8, 8, 4.8, 1.7, 1.9, 1.6)],
            [*_calls(2, 32, 21.0, 13.9, 13.2, 19.8), *_calls(8, 32, 30.5, 4.9, 5.1, 5.5, 5.0)],
            warm_up=1,
            threads=2,
        ),
        case(  # calls of different numbers of images
            [(1, 8, 7.0), (1, 16, 9.3), (2, 4, 0.9), (1, 4, 3.1), (1, 8, 4.4), (1, 2, 2.7), (1, 32, 11.9)],
            [(1, 4, 6.2), (1, 2, 0.8), (1, 16, 3.3), (2, 8, 0.7), (1, 64, 9.7), (1, 4, 1.9)],
            warm_up=1,
            threads=1,
        ),
    ]


def speedup_drawn(g: torch.Generator) -> Case:
    def calls() -> list[Call]:
        times = draw(integer(g, 12, 20), seed=g).abs() + 0.1
        return [(1 + place % 2, integer(g, 1, 64), time) for place, time in enumerate(times.tolist())]

    return case(calls(), calls(), warm_up=integer(g, 1, 3), threads=integer(g, 1, 2))


EXERCISE = Exercise(
    id="08.5",
    title="how many times as fast",
    question=(
        "`baseline` and `candidate` are lists of timed calls, in the order measured: tuples (threads, images, "
        "milliseconds), the time that one call took for so many images with so many threads. Write "
        "`my_speedup(baseline, candidate, *, warm_up, threads)`: how many times as fast the candidate is, a float. On "
        "both sides take the calls with exactly `threads` threads, drop the first `warm_up` *of those*, and take "
        "the median of the milliseconds per image (of an even number of calls: the mean of the middle two). Return "
        "baseline's median / candidate's median. The lists may differ in length and in images."
    ),
    skeleton=(
        "def my_speedup(baseline, candidate, *, warm_up, threads):\n"
        '    """Median time per image of the baseline over that of the candidate, on equal terms."""\n    ...'
    ),
    reference=speedup,
    alternatives=(speedup_by_tensors, speedup_by_throughput),
    cases=speedup_cases,
    drawn=speedup_drawn,
    hints=(
        "Go through the two lists: in what do the calls differ besides the network? All of that has to be made equal.",
        "For each side: choose by threads, then drop the first, then divide by images, then the median.",
        "`times = [ms / images for used, images, ms in calls if used == threads][warm_up:]` on both sides, then "
        "`statistics.median(times)`.",
    ),
    misconceptions=(
        Misconception(
            "the first calls counted",
            first_calls_counted,
            "you count the first calls as well. They load code, fill caches and reserve memory, once, and say "
            "nothing about all later ones",
        ),
        Misconception(
            "warm-up taken from the whole list",
            warm_up_of_the_list,
            "you drop the first calls of the list and then choose by threads. Each number of threads needs a warm-up "
            "of its own, as the threads are started then. Choose first",
        ),
        Misconception(
            "the mean with its outliers",
            means_of_times,
            "you take means. One call during which the machine was busy with something else moves the mean a long "
            "way, and the median hardly",
        ),
        Misconception(
            "upside down",
            upside_down,
            "your ratio is upside down: it falls when the candidate gets faster. Times as fast is the old time over "
            "the new one",
        ),
        Misconception(
            "the best of one against the median of the other",
            best_against_median,
            "you compare the candidate's best call with the baseline's median. Two copies of one network would then "
            "show a speed-up",
        ),
        Misconception(
            "the best of both",
            best_of_both,
            "you take the best call of each side. The minimum of more calls is lower, and users do not get to "
            "choose their call; the median is what they experience",
        ),
        Misconception(
            "more threads for one side",
            more_threads_for_one,
            "you let the candidate use more threads than the baseline. That measures the threads. Equal terms: the "
            "same number on both sides",
        ),
        Misconception(
            "thread counts mixed",
            threads_mixed,
            "you put the calls of all thread counts together. The median then depends on how many were made with how "
            "many threads. Choose `threads` on both sides",
        ),
        Misconception(
            "different work",
            unlike_work,
            "you compare calls that do different work: the batches are not of one size. Divide by the images. A "
            "published 17 × compared a matmul with an elementwise product; that is the same mistake",
        ),
        Misconception(
            "the lower of two middle values",
            lower_medians,
            "of an even number of calls you take the lower of the middle two, as `torch.median` does. The median is "
            "their mean: `statistics.median`",
        ),
        Misconception(
            "the upper of two middle values",
            upper_medians,
            "of an even number of calls you take the upper of the middle two, as `sorted(times)[len(times) // 2]` "
            "does. The median is their mean",
        ),
        *WRONG,
    ),
    shows="a speed-up is a ratio of medians, after the warm-up, for the same work with the same threads.",
    derivation=(
        "Only what differs between the two sides can explain the ratio: so equal threads, equal work, equal warm-up, "
        "the same statistic. The median, as delays are one-sided: nothing makes a call too fast."
    ),
)
