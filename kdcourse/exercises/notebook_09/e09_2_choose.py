"""09.2 the best that fits."""

import math
from statistics import fmean
from typing import Any

import torch

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Record = dict[str, Any]
Name = str | None


def fits(record: Record, max_kilobytes: float, max_milliseconds: float) -> bool:
    return record["bytes"] <= 1000 * max_kilobytes and record["milliseconds"] <= max_milliseconds


def choose(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    fitting = [record for record in records if fits(record, max_kilobytes, max_milliseconds)]
    if not fitting:
        return None
    return max(fitting, key=lambda record: fmean(record["validation"]))["name"]


def choose_by_sorting(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    ranked = sorted(records, key=lambda record: sum(record["validation"]) / len(record["validation"]), reverse=True)
    for record in ranked:
        if record["bytes"] / 1000 <= max_kilobytes and record["milliseconds"] <= max_milliseconds:
            return record["name"]
    return None


def choose_in_a_loop(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    name, best = None, -math.inf
    for record in records:
        if record["bytes"] > max_kilobytes * 1000 or record["milliseconds"] > max_milliseconds:
            continue
        mean = torch.tensor(record["validation"], dtype=torch.float64).mean().item()
        if mean > best:
            name, best = record["name"], mean
    return name


def _best(fitting: list[Record], value: Any) -> Name:
    return max(fitting, key=value)["name"] if fitting else None


def _mean(record: Record) -> float:
    return fmean(record["validation"])


def _fitting(records: list[Record], kilobytes: float, milliseconds: float) -> list[Record]:
    return [record for record in records if fits(record, kilobytes, milliseconds)]


def chosen_on_test(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: one["test"])


def best_seed(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: max(one["validation"]))


def first_seed(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: one["validation"][0])


def summed_over_seeds(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: sum(one["validation"]))


def only_bytes(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, math.inf), _mean)


def only_milliseconds(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, math.inf, max_milliseconds), _mean)


def either_budget(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    small, fast = _fitting(records, max_kilobytes, math.inf), _fitting(records, math.inf, max_milliseconds)
    return _best([one for one in records if one in small or one in fast], _mean)


def strictly_below(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    below = [one for one in records if one["bytes"] < 1000 * max_kilobytes and one["milliseconds"] < max_milliseconds]
    return _best(below, _mean)


def smallest_that_fits(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: -one["bytes"])


def fastest_that_fits(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: -one["milliseconds"])


def most_for_a_byte(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: _mean(one) / one["bytes"])


def kilobytes_as_bytes(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes / 1000, max_milliseconds), _mean)


def powers_of_two(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes * 1.024, max_milliseconds), _mean)


def budget_afterwards(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    best = max(records, key=_mean)
    return _best(_fitting([best], max_kilobytes, max_milliseconds), _mean)


def best_if_nothing_fits(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds) or records, _mean)


def which_name(result: Any, case: Case) -> Any:
    """The answer, if it is a name in the records or None."""
    if result is not None and result not in [record["name"] for record in case.arguments[0]]:
        raise ValueError("none of the names")
    return {"chosen": result}


def measured(name: str, validation: list[float], test: float, bytes: int, milliseconds: float) -> Record:
    return {"name": name, "validation": validation, "test": test, "bytes": bytes, "milliseconds": milliseconds}


def networks_measured() -> list[Record]:
    return [
        measured("teacher", [0.981, 0.983, 0.979], 0.982, 1_651_200, 9.2),
        measured("wide, few seeds", [0.974, 0.976], 0.971, 204_800, 2.5),
        measured("a little too large", [0.973, 0.974, 0.973], 0.97, 200_100, 2.4),
        measured("one bad seed", [0.974, 0.974, 0.9], 0.96, 199_000, 2.4),
        measured("lucky", [0.958, 0.979, 0.955], 0.968, 180_000, 2.2),
        measured("well on test", [0.969, 0.968, 0.967], 0.977, 199_000, 2.4),
        measured("good first seed", [0.978, 0.957, 0.963], 0.966, 150_000, 1.9),
        measured("distilled", [0.971, 0.972, 0.97], 0.97, 200_000, 2.4),
        measured("many seeds", [0.964, 0.966, 0.965, 0.963, 0.967], 0.965, 120_000, 1.8),
        measured("slow int8", [0.977, 0.976, 0.978], 0.975, 61_000, 6.1),
        measured("fast and large", [0.979, 0.978, 0.98], 0.979, 700_000, 1.7),
        measured("pruned", [0.961, 0.959, 0.963], 0.962, 52_300, 1.2),
        measured("pruned, int8", [0.952, 0.949, 0.955], 0.951, 17_400, 1.3),
        measured("tiny", [0.902, 0.899, 0.905], 0.901, 1_520, 1.6),
        measured("collapsed", [0.1, 0.1, 0.1], 0.1, 1_480, 1.7),
    ]


def choice_cases() -> list[Case]:
    few = [
        measured("small", [0.94, 0.95], 0.95, 30_000, 1.0),
        measured("large", [0.97, 0.98], 0.97, 90_000, 3.0),
        measured("middle", [0.96, 0.95], 0.96, 45_000, 2.0),
    ]
    close = [measured("first", [0.95], 0.9, 10, 1.0), measured("second", [0.95 + 1e-9], 0.9, 10, 1.0)]
    return [
        case(few, max_kilobytes=50, max_milliseconds=2.5),
        case(close, max_kilobytes=1, max_milliseconds=1),
        case(networks_measured(), max_kilobytes=200, max_milliseconds=2.5),
        case(networks_measured(), max_kilobytes=52.3, max_milliseconds=1.2),
        case(networks_measured(), max_kilobytes=1700, max_milliseconds=1.8),
        case(networks_measured(), max_kilobytes=10, max_milliseconds=1.3),
        case(networks_measured(), max_kilobytes=1700, max_milliseconds=10),
    ]


def drawn_records(g: torch.Generator) -> Case:
    records = [
        measured(f"net {n}", (0.9 + draw(integer(g, 1, 4), seed=g, spread=0.02)).tolist(), integer(g, 80, 99) / 100,
                 1000 * integer(g, 10, 90), integer(g, 1, 9) / 2) for n in range(integer(g, 2, 6))]  # fmt: skip
    return case(records, max_kilobytes=integer(g, 20, 90), max_milliseconds=integer(g, 2, 9) / 2)


EXERCISE = Exercise(
    id="09.2",
    title="the best that fits",
    question=(
        "Each of `records` is a dict: `name`, `validation` (a list of accuracies, one per seed), `test` (one "
        "accuracy), `bytes` and `milliseconds`. The device has room for `max_kilobytes` (1 KB = 1,000 bytes) and a "
        "call may take `max_milliseconds`; exactly that much still fits. Write "
        "`my_choice(records, *, max_kilobytes, max_milliseconds)`: the name of the network with the best mean "
        "accuracy on validation among those that fit, or `None` if none does. No two means are equal; not every "
        "network has the same number of seeds."
    ),
    skeleton=(
        "def my_choice(records, *, max_kilobytes, max_milliseconds):\n"
        '    """Name of the best network on validation that fits both budgets, or None."""\n    ...'
    ),
    reference=choose,
    alternatives=(choose_by_sorting, choose_in_a_loop),
    cases=choice_cases,
    drawn=drawn_records,
    hints=(
        "Two steps: which networks qualify, and which one wins. Which numbers belong to which step? One belongs to "
        "neither.",
        "Keep the records that meet both budgets with <=, in the same unit. If the list is empty, return None. Then "
        "`max` by the mean of `validation`.",
        '`max(fitting, key=lambda record: fmean(record["validation"]))["name"]`, with `fmean` from `statistics`.',
    ),
    misconceptions=(
        Misconception(
            "chosen on test",
            chosen_on_test,
            "you choose by test accuracy. Test then has done the choosing, and the winner's number there is too high: "
            "its luck helped it to win. Choose on validation, report test once",
        ),
        Misconception(
            "the best seed",
            best_seed,
            "you take each network's best seed. The maximum rewards luck that varies, and more seeds give more tries. "
            "Compare means",
        ),
        Misconception(
            "the first seed",
            first_seed,
            "you look at the first seed alone. One run mixes the quality of the network with its own luck, and "
            "cannot tell them apart. Compare means",
        ),
        Misconception(
            "summed over seeds",
            summed_over_seeds,
            "you add up the seeds. Networks with more runs then win. Divide by the number of seeds",
        ),
        Misconception(
            "only the bytes checked",
            only_bytes,
            "you check the bytes only. A small file can be slow: both budgets must be met",
        ),
        Misconception(
            "only the milliseconds checked",
            only_milliseconds,
            "you check the milliseconds only. A fast network can be too large for the device: both budgets must be met",
        ),
        Misconception(
            "either budget is enough",
            either_budget,
            "you keep a network that meets one of the two budgets. A device needs both: `and`, not `or`",
        ),
        Misconception(
            "strictly below",
            strictly_below,
            "you ask for less than the budget. What takes exactly as much still fits: <=",
        ),
        Misconception(
            "the smallest that fits",
            smallest_that_fits,
            "you take the smallest file that fits. A budget is a limit, not a target: unused space has no value. "
            "Take the most accurate",
        ),
        Misconception(
            "the fastest that fits",
            fastest_that_fits,
            "you take the fastest that fits. A budget is a limit, not a target: unused time has no value. Take "
            "the most accurate",
        ),
        Misconception(
            "most accuracy per byte",
            most_for_a_byte,
            "you divide accuracy by bytes. Bytes range over powers of ten and accuracy hardly moves, so the smallest "
            "wins, however bad it is. Under a budget, bytes only decide which networks qualify",
        ),
        Misconception(
            "kilobytes compared with bytes",
            kilobytes_as_bytes,
            "you compare bytes with kilobytes. Almost nothing fits then. Multiply the budget by 1,000",
        ),
        Misconception(
            "1,024 bytes",
            powers_of_two,
            "your KB has 1,024 bytes. That is a KiB; here 1 KB = 1,000 bytes, and the 2.4 % between them let in a "
            "network that does not fit",
        ),
        Misconception(
            "the budget looked at last",
            budget_afterwards,
            "you take the best of all and then see whether it fits. The best of all hardly ever does; the best of "
            "those that fit is asked for. Filter first",
        ),
        Misconception(
            "the best if nothing fits",
            best_if_nothing_fits,
            "where nothing fits you return a network anyway. It will be shipped, and it will not run. Return None",
        ),
    ),
    shows=(
        "budgets decide which networks qualify, the mean on validation decides which one wins, and test decides "
        "nothing."
    ),
    derivation=(
        "Maximize the mean over seeds on validation, subject to bytes <= B and milliseconds <= M. The answer is on "
        "the front: what dominates it would fit as well, and would have been chosen. Test is looked at once, for the "
        "one that was chosen."
    ),
    observe=which_name,
)
