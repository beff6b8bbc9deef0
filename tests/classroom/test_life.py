"""A course's life: roster, due dates, late and repeated hand-ins, grading again, marks given by hand, a new release."""

import json
import re
from contextlib import chdir

import deadly
import pytest
from classes import ALL, KL, Class, answer, points

from kdcourse.classroom import running
from kdcourse.classroom.nbgrading import LatePenalty, api
from kdcourse.classroom.records import Record
from kdcourse.classroom.releasing import release, renew, write_sources

WRONG = "def my_kl_of_probabilities(p, q):\n    return p.sum()\n"
RAISES = "def my_kl_of_probabilities(p, q):\n    raise RuntimeError\n"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return Class(tmp_path_factory.mktemp("class"), LatePenalty_per_day=0.1, LatePenalty_grace_minutes=15)


def stamp(course, student, time):
    (course.place(student) / "timestamp.txt").write_text(time, encoding="utf-8")


@pytest.fixture(scope="module")
def first(course):
    """The first evening: a roster of six, a due date, four hand-ins."""
    roster = course.folder / "roster.csv"
    roster.write_text("id,last_name,first_name,email\n" + "".join(
        f'{name},"Of, {name}",{name},{name}@example.org\n' for name in ("ada", "ben", "cem", "dua", "eli", "fay")
    ), encoding="utf-8")  # fmt: skip
    course.nbgrader("db", "student", "import", str(roster))
    course.nbgrader("db", "assignment", "add", KL, "--duedate=2026-11-20 18:00:00 UTC")
    course.submit("ada", course.solved())
    stamp(course, "ada", "2026-11-20 17:59:00 UTC")
    course.submit("ben", course.solved(e1=WRONG))
    stamp(course, "ben", "2026-11-21 19:00:00 UTC")  # the second day has begun
    course.submit("cem", course.solved())
    stamp(course, "cem", "2026-11-20 18:10:00 UTC")  # within the grace
    course.submit("dua", course.solved(e2=RAISES))
    told = course.grade("03")
    return told, course.grades()


def test_the_run_ends_with_a_table_of_everyone(first):
    told, grades = first
    lines = told.splitlines()
    assert lines[-1] == f"{KL}: 4 graded, 2 not handed in, 0 damaged, 0 tried to reach the grader"
    start = next(number for number, line in enumerate(lines) if line.startswith("student"))
    assert [line.split()[0] for line in lines[start + 1 : -2]] == ["ada", "ben", "cem", "dua", "eli", "fay"]
    assert re.search(r"^eli +[–-] +not handed in$", told, re.MULTILINE)
    assert re.search(r"^dua .*graded: .*no time of handing in", told, re.MULTILINE)
    assert {row["status"] for row in grades.values()} == {"graded", "not handed in"}
    assert grades["ben"]["last_name"] == "Of, ben"


def test_late_work_costs_what_the_settings_say(first):
    _, grades = first
    late = {name: float(row["late_submission_penalty"]) for name, row in grades.items()}
    assert late == {"ada": 0, "ben": round(0.2 * (ALL - 1), 2), "cem": 0, "dua": 0, "eli": 0, "fay": 0}
    assert float(grades["ben"]["score"]) == pytest.approx(ALL - 1 - late["ben"])


@pytest.mark.parametrize(
    ("per_day", "seconds", "lost"),
    [(0.0, 1e6, 0), (0.25, 1, 2), (0.25, 86_400, 2), (0.25, 86_401, 4), (0.25, 9e9, 8), (1.0, 1, 8)],
)
def test_the_penalty_is_a_fraction_of_the_points_for_each_day_begun(per_day, seconds, lost):
    assert LatePenalty(per_day=per_day).late_submission_penalty("ada", 8.0, seconds) == lost
    assert LatePenalty(per_day=per_day, grace_minutes=10**9).late_submission_penalty("ada", 8.0, seconds) == 0


def seeds(course):
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))["seed"]
        for path in (course.folder / "marks").glob(f"*/{KL}.json")
    }


@pytest.fixture(scope="module")
def second(course, first):
    """Eli hands in, ben hands in anew, dua gets a point by hand; nothing of the others is judged again."""
    with chdir(course.folder), api(course.folder).gradebook as gradebook:
        grade = gradebook.find_grade("check-03-2", KL, KL, "dua")
        grade.manual_score = 1.5
        gradebook.db.commit()
    before = seeds(course)
    course.submit("ben", course.solved())
    stamp(course, "ben", "2026-11-20 12:00:00 UTC")
    course.submit("eli", course.released())
    told = course.grade("03")
    return told, course.grades(), before, seeds(course)


def test_a_second_hand_in_takes_the_firsts_place_and_the_rest_stays(second):
    told, grades, before, after = second
    assert "2 of 2" in told
    assert "1 of 3" not in told
    assert (float(grades["ben"]["score"]), float(grades["eli"]["score"])) == (ALL, 0)
    assert {name for name in before if before[name] != after[name]} == {"ben"}


def test_grading_again_draws_new_cases_and_keeps_what_was_given_by_hand(course, second):
    *_, before = second
    told = course.grade("03", "--again", "--student", "ada", "--student", "dua")
    grades = course.grades()
    assert "2 of 2" in told
    assert {name for name, seed in seeds(course).items() if seed != before[name]} == {"ada", "dua"}
    assert float(grades["dua"]["score"]) == ALL - points("03.2") + 1.5
    assert f"Score: {ALL - 0.5} / {float(ALL)}" in course.feedback("dua")
    assert float(grades["ada"]["score"]) == ALL


def test_a_due_date_that_is_moved_changes_the_penalty_without_judging(course, second):
    course.nbgrader("db", "assignment", "add", KL, "--duedate=2026-11-18 18:00:00 UTC")
    before = seeds(course)
    course.grade("03", "--student", "ada")
    assert float(course.grades()["ada"]["late_submission_penalty"]) == round(0.2 * ALL, 2)
    assert seeds(course) == before


def test_a_new_release_keeps_points_and_asks_by_the_new_text(course, first, tmp_path):
    """Whoever mends an exercise releases again: the text is new, the grade book stays."""
    from classes import NOTEBOOK

    changed = tmp_path / NOTEBOOK.name
    changed.write_text(NOTEBOOK.read_text(encoding="utf-8").replace("Exercise 03.1", "Exercise 03.1, mended"), "utf-8")
    write_sources(tmp_path / "made", [changed])
    old = course.grades()["cem"]
    renew(course.folder, tmp_path / "made")
    assert any("03.1, mended" in part.source for part in course.released().cells)
    course.grade("03", "--student", "cem")
    assert course.grades()["cem"]["raw_score"] == old["raw_score"] == str(float(ALL))


def test_an_assignment_that_loses_an_exercise_stays_as_it_was(course, first, tmp_path, capsys):
    write_sources(tmp_path / "made", [course.folder / "source" / KL / f"{KL}.ipynb"])
    path = tmp_path / "made" / "source" / KL / f"{KL}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"] = [part for part in notebook["cells"] if "03-6" not in str(part["metadata"].get("nbgrader"))]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    renew(course.folder, tmp_path / "made")
    assert f"{KL} stays as it was: its exercises are others now" in capsys.readouterr().out
    assert answer(course.released(), "03.6").source


def test_whom_and_what_is_not_there_is_told(course, first):
    assert "zed is neither on the roster nor in" in course.grade("03", "--student", "zed", rc=1)
    assert "no assignments begin with 17: they are 03_kl_derivation" in course.grade("17", rc=1)


def test_a_release_says_at_once_that_its_folder_exists(tmp_path, monkeypatch):
    monkeypatch.setattr("kdcourse.classroom.releasing.make_course", lambda *_: pytest.fail("it began"))
    with pytest.raises(SystemExit, match="exists, perhaps with grades in it"):
        release(tmp_path)
    with pytest.raises(SystemExit, match="holds no class to renew"):
        release(tmp_path, again=True)


def test_a_submission_that_ends_its_process_costs_no_other_and_the_next_are_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "judge", deadly.judge)
    monkeypatch.setattr(running, "exposed", deadly.nothing)

    def judged(*students):
        found = running.judged(tmp_path, [Record(student, "03") for student in students], {})
        return {record.student: record.damage for record in found}

    assert judged("ada", "bad") == {"ada": "judged", "bad": "grading it ended the grader's own process"}
    assert judged("cem") == {"cem": "judged"}
