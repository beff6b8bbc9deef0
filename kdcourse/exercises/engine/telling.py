"""What to say of a mistake that no misconception explains: the smallest case, what was right there, and what came."""

import inspect
import linecache
import sysconfig
import traceback
from pathlib import Path

from .comparing import difference, size
from .core import Case, Exercise
from .describing import both_sides, describe, numbers, what_differs
from .running import Outcome, gradient_differences


def about_the_smallest(
    exercise: Exercise, cases: list[Case], expected: list[Outcome], got: list[Outcome], kinds: dict[int, str]
) -> tuple[str, str]:
    """Kind and text of the fault of the smallest case among those that show one."""
    place = min(kinds, key=lambda number: size([cases[number].arguments, cases[number].keywords]))
    want, found, kind = expected[place], got[place], kinds[place]
    call = _call(exercise, cases[place])
    if found.error is not None:
        return kind, f"your function raises {own_line(found.error)}\n{call}"
    if kind == "unusable":
        assert found.unusable is not None
        return kind, f"what your function returns does not work: it raises {own_line(found.unusable)}\n{call}"
    if kind == "gradient":
        return kind, f"{_about_the_gradient(exercise, want, found)}\n{call}"
    if found.unusable is not None:
        return kind, f"{_about_the_type(want, found)}.\n{call}"
    entry = difference(want.observed, found.observed, relative=exercise.relative, absolute=exercise.absolute)
    assert entry
    return kind, f"{what_differs(entry)}.\n{call}\n{both_sides(want.observed, found.observed, entry)}"


def _about_the_type(want: Outcome, found: Outcome) -> str:
    """Of a result that cannot be looked at: what it is, or what the exercise says is wrong with it."""
    entry = difference(want.value, found.value, relative=0, absolute=0)
    if entry and entry.kind in ("type", "length", "keys"):
        return f"{what_differs(entry)}. It returns {describe(found.value)}"
    return f"your function returns {describe(found.value)}: {found.unusable}"


def _about_the_gradient(exercise: Exercise, want: Outcome, found: Outcome) -> str:
    if want.has_graph and not found.has_graph:
        return (
            "the value is correct, but no gradient flows through it, so nothing would be learned. "
            ".item(), .detach(), .data, NumPy, torch.tensor(…) and no_grad all cut off the gradient"
        )
    none = (None,) * len(exercise.gradients)
    sides = zip(want.gradients or none, found.gradients or none, strict=True)
    entries = gradient_differences(exercise, want, found)
    names = list(inspect.signature(exercise.reference).parameters)
    lines = ["the value is correct, but its gradient is not."]
    for place, (one, other), entry in zip(exercise.gradients, sides, entries, strict=True):
        if entry:
            lines += [f"  with respect to {names[place]}:", both_sides(one, other, entry)]
    return "\n".join(lines)


def about_refusals(case: Case, got: Outcome) -> tuple[str, str]:
    """Kind and text where a call should have been refused by a ``ValueError``."""
    if got.error is not None:
        kind = type(got.error).__name__
        text = f"correct for all valid arguments. For {case.refused} it raises {kind} instead of a ValueError"
        return "accepts", f"{text}\n  {own_line(got.error)}"
    kind = "broadcast" if "shape" in case.refused else "accepts"
    more = " PyTorch broadcasts silently, so nothing else will tell you." if kind == "broadcast" else ""
    accepts = f"your function accepts {case.refused}, and returns {describe(got.value)}"
    return kind, f"correct for all valid arguments, but {accepts}.{more} Raise a ValueError there"


def _call(exercise: Exercise, case: Case) -> str:
    bound = inspect.signature(exercise.reference).bind(*case.arguments, **case.keywords)
    return "\n".join(f"  for {name} = {numbers(value)}" for name, value in bound.arguments.items())


def own_line(error: BaseException) -> str:
    """The exception and the last line of the learner's own that it passed."""
    message = next(iter(str(error).splitlines()), "")
    text = f"{type(error).__name__}: {message[:200]}"
    place = getattr(error, "own_place", None) or _own_place(error)  # or where another process says that it was raised
    return f"{text}\n  in your line {place[0]}:  {place[1]}" if place else text


def _own_place(error: BaseException) -> tuple[int, str] | None:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_library(f.filename)]
    if not frames or frames[-1].lineno is None:
        return None
    return frames[-1].lineno, linecache.getline(frames[-1].filename, frames[-1].lineno).strip()


def _is_library(filename: str) -> bool:
    libraries = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    kdcourse = str(Path(__file__).parents[2])
    return filename.startswith((*libraries, kdcourse, "<frozen"))
