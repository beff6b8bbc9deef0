"""What a run of grading has come to, as an instructor reads it."""

from collections import Counter

from .records import DAMAGED, GRADED, MISSING, REACHED, Record


def table(found: list[Record], scores: dict[str, tuple[float, float]]) -> str:
    """A line for each student, the counts below; ``scores`` are points and the penalty for being late.

    >>> print(table([Record("ada", "03")], {}))
    student  points  late  what became of it
    ada           –        not handed in
    <BLANKLINE>
    03: 0 graded, 1 not handed in, 0 damaged, 0 tried to reach the grader
    """
    wide = max([len("student"), *(len(record.student) for record in found)])
    lines = [f"{'student':<{wide}}  points  late  what became of it"]
    for record in found:
        points, penalty = scores.get(record.student, (None, 0.0))
        earned = "–" if record.status == MISSING or points is None else f"{points - penalty:g}"
        late = f"{-penalty:g}" if penalty else ""
        said = f"{record.status}: {record.note}" if record.note else record.status
        lines.append(f"{record.student:<{wide}}  {earned:>6}  {late:>4}  {said}")
    counts = Counter(record.status for record in found)
    name = found[0].assignment if found else "nobody"
    return "\n".join(
        [*lines, "", f"{name}: {', '.join(f'{counts[each]} {each}' for each in (GRADED, MISSING, DAMAGED, REACHED))}"]
    )
