"""Make what a class needs: an nbgrader course with solutions for the instructor, and a copy without them to hand out.

``python .ci/release.py FOLDER`` writes ``FOLDER/nbgrader`` (one assignment a notebook: ``source``, ``release``
and the grade book) and ``FOLDER/handout``. Both are made beside FOLDER and then renamed.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import indent

import nbformat
from execute import CHECK, graded_cells

from kdcourse._base.notebooks import read
from kdcourse.exercises import Exercise, exercises
from kdcourse.exercises.engine.showing import solution_source

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
HANDED_OUT = ("README.md", "LICENSE", "CITATION.cff", "Makefile", "pyproject.toml", "requirements.txt", "kdcourse",
              "data", ".ci/setup")  # fmt: skip
CONFIGURATION = """c = get_config()
c.CourseDirectory.course_id = "kdcourse"
c.ClearSolutions.code_stub = {"python": "..."}  # what the course's skeletons say
c.Execute.timeout = 300  # seconds a cell; one that takes longer is interrupted, and the others still run
c.Execute.interrupt_on_timeout = True
"""


def solved(exercise: Exercise) -> str:
    """The skeleton with a right answer in nbgrader's solution marks; when they are cleared, the skeleton remains."""
    *head, _ = exercise.skeleton.splitlines()
    *before, answer = ast.parse(solution_source(exercise)).body
    assert isinstance(answer, ast.FunctionDef)
    body = ast.unparse(ast.Module([*before, *answer.body], type_ignores=[]))
    return "\n".join([*head, indent(f"### BEGIN SOLUTION\n{body}\n### END SOLUTION", "    ")])


def source_version(path: Path) -> nbformat.NotebookNode:
    """The notebook as the instructor keeps it: solved, and each check cell importing the check anew.

    So a student who names something else ``check`` gains nothing.
    """
    notebook = read(path)
    answer = nbformat.NotebookNode()
    for cell, graded in graded_cells(notebook):
        if graded["solution"]:
            answer = cell
            continue
        match = CHECK.search(cell.source)
        assert match
        answer.source = solved(exercises[match[1]])
        if "import check" not in cell.source:
            cell.source = f"from kdcourse.exercises import check\n\n{cell.source}"
    return notebook


def make_course(folder: Path, notebooks: list[Path]) -> None:
    """Write an nbgrader course and let nbgrader make the students' version of every assignment."""
    folder.mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(CONFIGURATION, encoding="utf-8")
    for path in notebooks:
        place = folder / "source" / path.stem
        place.mkdir(parents=True)
        nbformat.write(source_version(path), place / path.name)
    for path in notebooks:
        result = nbgrader(folder, "generate_assignment", path.stem, "--create")
        if result.returncode:
            raise RuntimeError(f"nbgrader cannot make {path.stem}:\n{result.stderr[-2000:]}")


def nbgrader(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an nbgrader command in a course."""
    # it calls alembic by its bare name
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path})


def make_handout(folder: Path, course: Path) -> None:
    """Copy what a student needs: the released notebooks, the package and the data, without tests and solutions."""
    for name in HANDED_OUT:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__", "MNIST", "*.part"))
        else:
            shutil.copy2(ROOT / name, place)
    (folder / "notebooks").mkdir()
    shutil.copy2(ROOT / "TEACHING.md", folder)  # the README links it
    for path in sorted(course.glob("release/*/*.ipynb")):
        shutil.copy2(path, folder / "notebooks" / path.name)
    (folder / "kdcourse" / "exercises" / "WITHHELD").touch()


def main(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="release") as name:
        made = Path(name) / target.name
        make_course(made / "nbgrader", NOTEBOOKS)
        make_handout(made / "handout", made / "nbgrader")
        if target.exists():
            raise SystemExit(f"{target} exists, perhaps with grades in it: move it away, or name another folder")
        made.rename(target)
    print(f"{target}/nbgrader is yours: copy submissions to its folder submitted/STUDENT/ASSIGNMENT.")
    print(f"{target}/handout is for the class.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
