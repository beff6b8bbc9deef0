"""04.7 how long it takes to win."""

from ..engine.core import Case, Exercise, Misconception, case


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


def overtakes_cases() -> list[Case]:
    return [
        case([500, 1000, 2000], [0.92, 0.93, 0.935], [0.9, 0.935, 0.944]),
        case([100, 200, 400, 800, 1600], [0.8, 0.88, 0.9, 0.91, 0.915], [0.82, 0.85, 0.89, 0.92, 0.918]),
        case([500, 1000], [0.92, 0.95], [0.94, 0.94]),
        case([50, 100, 200], [0.5, 0.6, 0.7], [0.52, 0.63, 0.74]),
    ]


EXERCISE = Exercise(
    id="04.7",
    title="how long it takes to win",
    question=(
        "Two arms were trained for several numbers of steps. Write `my_overtakes(steps, alone, distilled)`: "
        "the smallest "
        "number of steps from which on the distilled student is strictly better at *every* longer training too; "
        "`None` if there is none. The three lists go together, and `steps` ascends."
    ),
    skeleton=(
        "def my_overtakes(steps, alone, distilled):\n"
        '    """The steps from which on distilled is better throughout, or None."""\n    ...'
    ),
    reference=overtakes,
    alternatives=(overtakes_from_behind, overtakes_by_all),
    cases=overtakes_cases,
    hints=(
        "A lead that is lost again does not count. From which end is that easiest to see?",
        "Go from the longest training backwards, for as long as the distilled student is ahead.",
        "`wins = [d > a for ...]`, then the first place at which `all(wins[place:])`.",
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
    ),
    shows="who wins depends on the budget, so both arms get the same and more than one is tried.",
    derivation="Going back from the longest training, the answer is where the unbroken row of wins begins.",
)
