"""Right answers earn every point of every notebook, untouched ones none; graded by the course's own command."""

import pytest
from classes import ROOT, Class, of

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    found = Class(tmp_path_factory.mktemp("class"), *NOTEBOOKS)
    for path in NOTEBOOKS:
        found.submit("ada", found.solved(path.stem), path.stem)
        found.submit("ben", found.released(path.stem), path.stem)
    found.grade(*(path.stem[:2] for path in NOTEBOOKS))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_right_answers_earn_all_points_and_untouched_ones_none(course, path):
    grades = course.grades(path.stem)
    possible = sum(exercise.points for exercise in of(path.stem).values())
    assert course.marks("ada", path.stem) == dict.fromkeys(of(path.stem), "right")
    assert course.marks("ben", path.stem) == dict.fromkeys(of(path.stem), "unattempted")
    assert [float(grades[name]["score"]) for name in ("ada", "ben")] == [possible, 0]
