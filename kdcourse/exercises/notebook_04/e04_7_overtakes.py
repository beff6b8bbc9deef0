"""04.7 how long it takes to win."""

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer


def overtakes(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    since = None
    for step, one, other in zip(steps, alone, distilled, strict=True):
        if other <= one:
            since = None
        elif since is None:
            since = step
    return since


def overtakes_from_behind(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    found = None
    for place in range(len(steps) - 1, -1, -1):
        if distilled[place] <= alone[place]:
            break
        found = steps[place]
    return found


def overtakes_by_all(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    wins = [other > one for one, other in zip(alone, distilled, strict=True)]
    return next((step for place, step in enumerate(steps) if all(wins[place:])), None)


def first_lead(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    wins = zip(steps, alone, distilled, strict=True)
    return next((step for step, one, other in wins if other > one), None)


def shortest_run_decides(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    return steps[0] if distilled[0] > alone[0] else None


def end_decides(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    return steps[-1] if distilled[-1] > alone[-1] else None


def best_decides(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    return steps[distilled.index(max(distilled))] if max(distilled) > max(alone) else None


def _last_row(steps: list[int], wins: list[bool]) -> int | None:
    return next((step for place, step in enumerate(steps) if all(wins[place:])), None)


def a_tie_counts(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    return _last_row(steps, [other >= one for one, other in zip(alone, distilled, strict=True)])


def arms_swapped(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    return overtakes(steps, distilled, alone)


def place_for_steps(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    return overtakes(list(range(len(steps))), alone, distilled)


def the_next_only(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    wins = [other > one for one, other in zip(alone, distilled, strict=True)]
    return next((steps[place] for place in range(len(steps) - 1) if wins[place] and wins[place + 1]), None)


def longest_row(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    best, since = (0, None), None
    for place, (one, other) in enumerate(zip(alone, distilled, strict=True)):
        since = None if other <= one else place if since is None else since
        if since is not None and place - since + 1 > best[0]:
            best = place - since + 1, steps[since]  # type: ignore[assignment]
    return best[1]


def last_step_lost(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    lost = [step for step, one, other in zip(steps, alone, distilled, strict=True) if other <= one]
    return lost[-1] if lost else None


def minus_one_for_none(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    found = overtakes(steps, alone, distilled)
    return -1 if found is None else found


def the_end_where_there_is_none(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    found = overtakes(steps, alone, distilled)
    return steps[-1] if found is None else found


def a_loss_must_come_first(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    found = overtakes(steps, alone, distilled)
    return None if found == steps[0] else found


def largest_lead(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    leads = [other - one for one, other in zip(alone, distilled, strict=True)]
    return steps[leads.index(max(leads))]


def mean_of_the_rest(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    rest = range(len(steps))
    return next((steps[place] for place in rest if sum(distilled[place:]) > sum(alone[place:])), None)


def zero_taken_for_nothing(steps: list[int], alone: list[float], distilled: list[float]) -> int | None:
    since = None
    for step, one, other in zip(steps, alone, distilled, strict=True):
        since = (since or step) if other > one else None
    return since


def overtakes_cases() -> list[Case]:
    return [
        case([500, 1000, 2000], [0.92, 0.93, 0.935], [0.9, 0.935, 0.944]),
        case([100, 200, 400, 800, 1600], [0.8, 0.88, 0.9, 0.91, 0.915], [0.82, 0.85, 0.89, 0.92, 0.918]),
        case([500, 1000], [0.92, 0.95], [0.94, 0.94]),
        case([50, 100, 200], [0.5, 0.6, 0.7], [0.52, 0.63, 0.74]),
        case([1, 2, 3, 4], [0.5, 0.6, 0.7, 0.8], [0.5, 0.7, 0.7, 0.9]),  # a tie is no lead
        case([30, 60, 90], [0.6, 0.8, 0.9], [0.6, 0.9, 0.9]),
        case([10, 20, 30, 40, 50], [0.2, 0.3, 0.4, 0.5, 0.6], [0.3, 0.4, 0.5, 0.4, 0.7]),
        case([0, 5], [0.1, 0.2], [0.2, 0.3]),  # an untrained student may be ahead
        case([7], [0.9], [0.8]),
    ]


def drawn_arms(g: torch.Generator) -> Case:
    """Arms of close accuracies of few digits, so that leads change and ties come."""
    count = integer(g, 2, 6)
    steps = (torch.randperm(20, generator=g)[:count] * 50).sort().values.tolist()
    alone = [integer(g, 80, 90) / 100 for _ in steps]
    return case(steps, alone, [round(one + integer(g, -1, 2) / 100, 2) for one in alone])


EXERCISE = Exercise(
    id="04.7",
    title="how long it takes to win",
    question=(
        "Two arms were trained for several numbers of steps. Write `my_overtakes(steps, alone, distilled)`: the "
        "smallest number of steps from which on the distilled student is strictly better at *every* longer training "
        "as well; `None` if there is none. The three lists go together; `steps` ascends and may begin with 0."
    ),
    skeleton=(
        "def my_overtakes(steps, alone, distilled):\n"
        '    """The steps from which on distilled is better throughout, or None."""\n    ...'
    ),
    reference=overtakes,
    alternatives=(overtakes_from_behind, overtakes_by_all),
    cases=overtakes_cases,
    drawn=drawn_arms,
    hints=(
        "A lead that is lost again does not count. From which end is that easiest to see?",
        "Go from the longest training backwards, for as long as the distilled student is ahead.",
        "`wins = [d > a for ...]`, then the first position at which `all(wins[place:])`.",
    ),
    misconceptions=(
        Misconception(
            "too few steps",
            shortest_run_decides,
            "you decide by the shortest training. Distillation often loses there and wins later: soft targets are more "
            "to learn. Too few steps are a usual reason why it 'does not work'",
        ),
        Misconception(
            "the first lead",
            first_lead,
            "you return the first lead, though it is lost again later. An early lead may be luck: ask that it lasts",
        ),
        Misconception(
            "the end alone",
            end_decides,
            "you look at the longest training only. The lead may have begun long before",
        ),
        Misconception(
            "best against best",
            best_decides,
            "you compare the best of each arm, at different numbers of steps. Equal budgets are what makes it fair",
        ),
        Misconception(
            "a tie counts as a lead",
            a_tie_counts,
            "you let a tie count. The question says *strictly* better: `>`, not `>=`",
        ),
        Misconception(
            "arms swapped",
            arms_swapped,
            "you return from where on the student *alone* is ahead. Which list is which?",
        ),
        Misconception(
            "the place for the steps",
            place_for_steps,
            "you return the position in the list. The question asks for the number of steps there: `steps[place]`",
        ),
        Misconception(
            "only the next one looked at",
            the_next_only,
            "you ask for a lead here and at the next longer training. It must last through *every* longer one; at the "
            "longest there is no next, and a lead there counts",
        ),
        Misconception(
            "the longest lead",
            longest_row,
            "you look for the longest unbroken lead. It may have been lost again: only the one that lasts to the "
            "longest training counts",
        ),
        Misconception(
            "the last training that was lost",
            last_step_lost,
            "you return the longest training at which distilled is *not* ahead. The answer is the next one, and it is "
            "`None` if there is no next",
        ),
        Misconception(
            "-1 for None",
            minus_one_for_none,
            "you return -1 where there is no such number of steps. -1 is a number and can be computed with: return "
            "`None`",
        ),
        Misconception(
            "the end where there is none",
            the_end_where_there_is_none,
            "you return the longest training although distilled is not ahead there. Then there is none: `None`",
        ),
        Misconception(
            "a loss must come first",
            a_loss_must_come_first,
            "you find nothing where distilled is ahead from the start. The smallest number of steps is then the first",
        ),
        Misconception(
            "zero taken for nothing",
            zero_taken_for_nothing,
            "0 steps count as no answer in your function, because 0 is falsy. Ask `is None` instead of using `or` or "
            "`if since`",
        ),
        Misconception(
            "the largest lead",
            largest_lead,
            "you return where the lead is largest. From where on is it never lost?",
        ),
        Misconception(
            "the sum of the rest",
            mean_of_the_rest,
            "you compare the sum or the mean over all longer trainings. A large lead at one hides a loss at another: "
            "distilled must be ahead at each",
        ),
    ),
    shows="who wins depends on the budget, so both arms get the same and more than one is tried.",
    derivation="Going back from the longest training, the answer is where the unbroken row of wins begins.",
)
