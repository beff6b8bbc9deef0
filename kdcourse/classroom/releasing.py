"""Make what a class needs: an nbgrader course with solutions for whoever teaches, a copy without them to hand out."""

import ast
import re
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path
from textwrap import indent

import nbformat

from .._base.notebooks import read
from .._base.places import say
from ..exercises import Exercise, exercises
from ..exercises.engine.showing import solution_source
from .cells import graded_cells
from .repairing import CHECK

ROOT = Path(__file__).resolve().parents[2]
HANDED_OUT = (
    "LICENSE", "CITATION.cff", "pyproject.toml", "requirements.txt", "requirements-models.txt", "kdcourse", "data",
    ".ci/setup",
)  # fmt: skip
STAYS_HERE = shutil.ignore_patterns("__pycache__", "MNIST", "*.part", "classroom")
FOR_STUDENTS = Path(__file__).with_name("handout")
"""files that the copy for the class has in place of this checkout's: its README and its Makefile"""
CONFIGURATION = """from kdcourse.classroom.nbgrading import configure

c = get_config()
configure(c)  # submissions are judged, not run
c.CourseDirectory.course_id = "kdcourse"

# late work: the fraction of the points earned that each day begun costs (0.1: a tenth), and minutes that cost nothing
c.LatePenalty.per_day = 0.0
c.LatePenalty.grace_minutes = 15
"""
LATER = r"`\1` shows a right answer once your instructor has opened the solutions"


def solved(exercise: Exercise) -> str:
    """The skeleton with a right answer in nbgrader's solution marks; when they are cleared, the skeleton remains."""
    *head, _ = exercise.skeleton.splitlines()
    *before, answer = ast.parse(solution_source(exercise)).body
    assert isinstance(answer, ast.FunctionDef)
    body = ast.unparse(ast.Module([*before, *answer.body], type_ignores=[]))
    return "\n".join([*head, indent(f"### BEGIN SOLUTION\n{body}\n### END SOLUTION", "    ")])


def source_version(path: Path) -> nbformat.NotebookNode:
    """The notebook as the instructor keeps it: solved, and saying what ``solution`` does in a class."""
    notebook = read(path)
    answer = nbformat.NotebookNode()
    for cell, graded in graded_cells(notebook):
        if graded["solution"]:
            answer = cell
            continue
        match = CHECK.search(cell.source)
        assert match
        answer.source = solved(exercises[match[1]])
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"`(solution\([^`]*\))`[^.,;]*", LATER, cell.source)
    return notebook


def make_course(folder: Path, notebooks: list[Path]) -> None:
    """Write an nbgrader course and let nbgrader make the students' version of every assignment."""
    write_sources(folder, notebooks)
    (folder / "nbgrader_config.py").write_text(CONFIGURATION, encoding="utf-8")
    generate(folder, [path.stem for path in notebooks])


def write_sources(folder: Path, notebooks: list[Path]) -> None:
    for path in notebooks:
        place = folder / "source" / path.stem
        place.mkdir(parents=True)
        nbformat.write(source_version(path), place / path.name)


def generate(folder: Path, assignments: list[str]) -> None:
    """Let nbgrader make the students' version of assignments, and note them in the grade book."""
    from .nbgrading import api

    with chdir(folder):
        nbgrader = api(folder.resolve())
        for assignment in assignments:
            result = nbgrader.generate_assignment(assignment, force=True, create=True)
            if not result["success"]:
                log = f"{result.get('log', '')}{result['error']}"
                raise RuntimeError(f"nbgrader cannot make {assignment}:\n{log}"[-2000:])


def make_handout(folder: Path, course: Path) -> None:
    """Copy what a student needs: the released notebooks, the package and the data, without tests and solutions."""
    for name in HANDED_OUT:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place, ignore=STAYS_HERE)
        else:
            shutil.copy2(ROOT / name, place)
    for path in (folder / "data" / "results").glob("*.py"):
        path.unlink()
    for path in FOR_STUDENTS.iterdir():
        shutil.copy2(path, folder)
    (folder / "notebooks").mkdir()
    for path in sorted(course.glob("release/*/*.ipynb")):
        shutil.copy2(path, folder / "notebooks" / path.name)
    (folder / "kdcourse" / "exercises" / "WITHHELD").touch()


def release(target: Path, *, again: bool = False) -> None:
    """Write ``target``/nbgrader and ``target``/handout; with ``again``, renew them and keep the grade book.

    Both are made beside the target and then renamed. Raises ``SystemExit`` with a sentence where that cannot be done.
    """
    notebooks = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    if not notebooks:
        raise SystemExit("kdcourse: the notebooks are not here: run this in a checkout of the course")
    if target.exists() and not again:
        raise SystemExit(f"{target} exists, perhaps with grades in it: move it away, name another folder (TO=folder), "
                         "or renew it and keep its grades (AGAIN=1)")  # fmt: skip
    if again and not (target / "nbgrader" / "gradebook.db").is_file():
        raise SystemExit(f"{target} holds no class to renew")
    say(f"Making {len(notebooks)} assignments. That takes about a minute.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="release") as name:
        made = Path(name) / target.name
        if again:
            write_sources(made, notebooks)
            renew(target / "nbgrader", made)
            make_handout(made / "handout", target / "nbgrader")
            shutil.rmtree(target / "handout", ignore_errors=True)
            (made / "handout").rename(target / "handout")
        else:
            make_course(made / "nbgrader", notebooks)
            make_handout(made / "handout", made / "nbgrader")
            made.rename(target)
    say(f"{target}/nbgrader is yours: copy submissions to its folder submitted/STUDENT/ASSIGNMENT.")
    say(f"{target}/handout is for the class.")


def renew(course: Path, made: Path) -> None:
    """Put new sources into an nbgrader course; submissions, points and marks given by hand stay.

    nbgrader refuses an assignment that has lost or gained an exercise since work was handed in; it stays as it was.
    """
    for new in sorted((made / "source").iterdir()):
        places = [course / step / new.name for step in ("source", "release")]
        kept = [made / f"kept_{place.parent.name}" for place in places]
        for place, aside in zip(places, kept, strict=True):
            if place.exists():
                place.rename(aside)
        new.rename(places[0])
        try:
            generate(course, [new.name])
        except RuntimeError as error:
            for place, aside in zip(places, kept, strict=True):
                shutil.rmtree(place, ignore_errors=True)
                if aside.exists():
                    aside.rename(place)
            say(f"{new.name} stays as it was: {_reason(error)}")
        for aside in kept:
            shutil.rmtree(aside, ignore_errors=True)


def _reason(error: RuntimeError) -> str:
    if "Cannot add or remove cells" in str(error) or "Cannot modify existing assignment" in str(error):
        return "its exercises are others now, and work on the old ones has been handed in"
    return str(error)
