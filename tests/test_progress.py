"""What a learner has solved: kept in a small file that no crash can spoil."""

import json
import os
import re
import subprocess
import sys

import pytest
from exercising import EXERCISES

import kdcourse
from kdcourse import exercises as course
from kdcourse.exercises.engine import records

pytestmark = pytest.mark.usefixtures("own_progress")


def solve(id):
    course.check(id, course.exercises[id].reference)


def test_progress_counts_tries_and_solved_stays_solved(own_progress, capsys):
    course.check("00.1", None)
    assert not own_progress.exists()
    course.check("00.1", course.exercises["00.1"].misconceptions[0].wrong)
    solve("00.1")
    course.check("00.1", course.exercises["00.1"].misconceptions[0].wrong)
    assert json.loads(own_progress.read_text()) == {"00.1": {"solved": True, "tries": 3}}
    course.check("02.1", lambda logits, temperature: logits)
    capsys.readouterr()
    kdcourse.progress()
    out = capsys.readouterr().out
    assert re.search(r"^  ✔ 00\.1  .* 3 tries$", out, re.M)
    assert re.search(r"^  ✘ 02\.1  .* 1 try$", out, re.M)
    assert re.search(r"^  – 02\.2 ", out, re.M)
    assert out.endswith(f"1 of {len(EXERCISES)} solved\n")
    headings = [line for line in out.splitlines() if line.startswith("Notebook")]
    assert headings == [f"Notebook {number}" for number in dict.fromkeys(id[:2] for id in course.exercises)]


def test_a_crash_while_writing_leaves_the_old_file_whole(own_progress, monkeypatch):
    solve("00.1")
    before = own_progress.read_text()

    def crash(*arguments):
        raise KeyboardInterrupt

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, crash)
            with pytest.raises(KeyboardInterrupt):
                solve("00.2")
        assert own_progress.read_text() == before
    assert list(own_progress.parent.iterdir()) == [own_progress]


DAMAGED = ['{"00.1": {"tri', "", "[]", '{"00.1": 3}', '{"00.1": {"tries": "x", "solved": true}}', "\0\0", "[" * 10**5]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_set_aside_and_named(text, own_progress, capsys):
    for number in (1, 2):
        own_progress.write_text(text)
        solve("00.1")
        aside = own_progress.with_name(f"progress.damaged-{number}.json")
        assert str(aside) in capsys.readouterr().out
        assert aside.read_text() == text
        assert json.loads(own_progress.read_text()) == {"00.1": {"solved": True, "tries": 1}}


def test_bytes_that_are_no_text_are_damage_too(own_progress, capsys):
    own_progress.write_bytes(b"\xff\xfe\x00")
    course.progress()
    assert "was damaged" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_reported_and_the_check_goes_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDCOURSE_PROGRESS", str(tmp_path / "file" / "progress.json"))
    solve("00.1")
    out = capsys.readouterr().out
    assert "cannot be kept" in out
    assert "✔ 00.1" in out


def test_without_the_variable_the_file_lies_in_the_users_own_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KDCOURSE_PROGRESS")
    monkeypatch.setattr(records, "user_data_path", lambda *names, **options: tmp_path / names[0])
    assert records.progress_path() == tmp_path / "kdcourse" / "progress.json"


def test_the_command_line_shows_progress(own_progress, capsys):
    solve("03.2")
    capsys.readouterr()
    course.progress()
    shown = capsys.readouterr().out
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "kdcourse", "progress"]
    result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == shown
