"""Attacks by results, files, network, processes and resources: exact points, nobody else touched, nothing reached."""

import time
from pathlib import Path

import pytest
from attacking import attacks, graded, table
from classes import ALL, ROOT, Class

CHOSEN = attacks("tensors", "network_and_files", "resources")


@pytest.fixture(scope="module")
def class_of_attackers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    course = Class(folder, Judge_call=4.0, Judge_total=30.0)
    rows, heard = graded(course, CHOSEN, folder / "elsewhere")
    print(table(CHOSEN, rows))
    return course, rows, heard, folder / "elsewhere"


@pytest.mark.parametrize("attack", CHOSEN, ids=lambda attack: attack["id"])
def test_an_attack_earns_what_it_must(class_of_attackers, attack):
    _, rows, _, _ = class_of_attackers
    assert float(rows[attack["id"]]["score"]) == attack.get("points", 0), attack["tries"]


@pytest.mark.parametrize("attack", [each for each in CHOSEN if each.get("reaches")], ids=lambda attack: attack["id"])
def test_what_it_tried_is_told(class_of_attackers, attack):
    _, rows, _, _ = class_of_attackers
    assert rows[attack["id"]]["status"] == "tried to reach the grader"
    assert "03.1: " in rows[attack["id"]]["note"]


def test_the_others_keep_their_points(class_of_attackers):
    _, rows, heard, elsewhere = class_of_attackers
    assert [float(rows[student]["score"]) for student in ("0_honest", "zz_honest")] == [ALL, ALL]
    assert {rows[student]["status"] for student in ("0_honest", "zz_honest")} == {"graded"}
    assert heard == []
    time.sleep(1)  # for those that outlive their answer
    harmed = [*elsewhere.iterdir(), *(ROOT / "kdcourse").rglob("*.harm")]
    harmed += [
        Path(place) / name
        for place in ("/tmp", "/var/tmp", "/dev/shm", Path.home())
        for name in ("harm", "kd_left_over")
    ]
    assert [path for path in harmed if path.exists()] == []
