"""Wrong answers to 08.5."""

from collections.abc import Callable
from statistics import median

from ..engine.core import Misconception

Call = tuple[int, int, float]
"""threads, images, milliseconds"""


def chosen(calls: list[Call], threads: int) -> list[Call]:
    return [call for call in calls if call[0] == threads]


def rates(calls: list[Call]) -> list[float]:
    return [milliseconds / images for _, images, milliseconds in calls]


def _ratio(one: list[Call], other: list[Call], warm_up: int, threads: int, of: Callable[[list[Call]], float]) -> float:
    return of(chosen(one, threads)[warm_up:]) / of(chosen(other, threads)[warm_up:])


def of_the_totals(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    def total(calls: list[Call]) -> float:
        return sum(time for *_, time in calls) / sum(images for _, images, _ in calls)

    return _ratio(baseline, candidate, warm_up, threads, total)


def medians_apart(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    def apart(calls: list[Call]) -> float:
        return median(time for *_, time in calls) / median(images for _, images, _ in calls)

    return _ratio(baseline, candidate, warm_up, threads, apart)


def images_of_the_first(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return _ratio(baseline, candidate, warm_up, threads, lambda calls: median(c[2] for c in calls) / calls[0][1])


def middle_unsorted(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    def middle(calls: list[Call]) -> float:
        values, n = rates(calls), len(calls)
        return (values[(n - 1) // 2] + values[n // 2]) / 2

    return _ratio(baseline, candidate, warm_up, threads, middle)


def medians_of_throughput(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return _ratio(candidate, baseline, warm_up, threads, lambda calls: median(1 / rate for rate in rates(calls)))


def ratios_of_pairs(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    times = [rates(chosen(calls, threads)[warm_up:]) for calls in (baseline, candidate)]
    return median(one / other for one, other in zip(*times, strict=False))


def slowest_dropped(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    one, other = (median(sorted(rates(chosen(c, threads)))[:-warm_up]) for c in (baseline, candidate))
    return one / other


def last_dropped(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    one, other = (median(rates(chosen(c, threads)[:-warm_up])) for c in (baseline, candidate))
    return one / other


def one_dropped(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    one, other = (median(rates(chosen(c, threads)[1:])) for c in (baseline, candidate))
    return one / other


def dropped_from_the_candidate(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median(rates(chosen(baseline, threads))) / median(rates(chosen(candidate, threads)[warm_up:]))


def up_to_so_many_threads(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    few = ([call for call in calls if call[0] <= threads] for calls in (baseline, candidate))
    one, other = (median(rates(calls[warm_up:])) for calls in few)
    return one / other


def time_saved(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return 1 - 1 / _ratio(baseline, candidate, warm_up, threads, lambda calls: median(rates(calls)))


WRONG = (
    Misconception(
        "of the totals",
        of_the_totals,
        "you divide total time by total images. One slow call then counts in full: take the median of the "
        "milliseconds per image",
    ),
    Misconception(
        "medians apart",
        medians_apart,
        "you take the medians of times and of images separately. Divide within each call first, then take the median",
    ),
    Misconception(
        "the images of the first call",
        images_of_the_first,
        "you divide by the images of the first call. Calls differ: divide each time by its own images",
    ),
    Misconception(
        "the middle of the unsorted",
        middle_unsorted,
        "you take the middle of the list as it was measured. The median is the middle of the *sorted* values",
    ),
    Misconception(
        "medians of throughput",
        medians_of_throughput,
        "you take medians of images per millisecond. Of an even number of calls their middle differs from that of "
        "the times: take milliseconds per image",
    ),
    Misconception(
        "ratios of pairs",
        ratios_of_pairs,
        "you divide call by call. The calls are not paired, and the lists may differ in length: first the two "
        "medians, then the ratio",
    ),
    Misconception(
        "the slowest dropped",
        slowest_dropped,
        "you drop the slowest calls. Warm-up means the *first* ones, however long they took",
    ),
    Misconception(
        "the last dropped",
        last_dropped,
        "you drop the last calls. The first ones warm up",
    ),
    Misconception(
        "always one dropped",
        one_dropped,
        "you always drop one call. How many says `warm_up`",
    ),
    Misconception(
        "warm-up of one side",
        dropped_from_the_candidate,
        "you drop the first calls of the candidate alone. The baseline's then still pays for its warm-up",
    ),
    Misconception(
        "up to so many threads",
        up_to_so_many_threads,
        "you also take calls with fewer threads. Exactly `threads` is asked for",
    ),
    Misconception(
        "the time saved",
        time_saved,
        "this is the fraction of the time that is saved. How many times as fast is the ratio baseline / candidate",
    ),
)
