"""Attacks on what judges, on the references, by source that is dangerous to read: exact points, nobody else touched."""

import pytest
from attacking import attacks, graded, table
from classes import ALL, Class

CHOSEN = attacks("checker", "references", "parsing")


@pytest.fixture(scope="module")
def class_of_attackers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    course = Class(folder, Judge_call=4.0, Judge_total=30.0)
    rows, heard = graded(course, CHOSEN, folder / "elsewhere", pages=["s9"])
    print(table(CHOSEN, rows))
    return course, rows, heard, folder / "elsewhere"


@pytest.mark.parametrize("attack", CHOSEN, ids=lambda attack: attack["id"])
def test_an_attack_earns_what_it_must(class_of_attackers, attack):
    _, rows, _, _ = class_of_attackers
    assert float(rows[attack["id"]]["score"]) == attack.get("points", 0), attack["tries"]


def test_the_others_keep_their_points(class_of_attackers):
    _, rows, heard, elsewhere = class_of_attackers
    assert [float(rows[student]["score"]) for student in ("0_honest", "zz_honest")] == [ALL, ALL]
    assert {rows[student]["status"] for student in ("0_honest", "zz_honest")} == {"graded"}
    assert heard == []
    assert list(elsewhere.iterdir()) == []


def test_no_page_runs_what_a_student_wrote(class_of_attackers):
    course, *_ = class_of_attackers
    assert "<script>document.title" not in course.feedback("s9")
    assert "<img src=x" not in course.feedback("s9")
