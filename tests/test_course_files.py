"""The course's own files beside a submission: stored scores count for these bytes and these digits alone."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from contesting import REFERENCE, few, renamed

from kdcourse.contest import course, judge
from kdcourse.contest.course import SEEN, baselines, counted, identity
from kdcourse.contest.inside import BATCH
from kdcourse.contest.sets import digits
from kdcourse.contest.tracks import twins
from kdcourse.data import load_results

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data" / "results"))
from baselines_judged import RECIPE  # noqa: E402 (a script, no package)


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A file of the course's, what is stored of it on `few` digits, and on how many images it is judged."""
    path = tmp_path / "net.onnx"
    path.write_bytes(REFERENCE.read_bytes())
    monkeypatch.setattr(course, "files", lambda: [path])
    scores = judge(path, on=few()).scores
    key = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "digits": identity(few())}
    stored = json.loads(json.dumps({"records": [key | counted(scores)]}))
    monkeypatch.setattr(course, "load_results", lambda job: stored)
    seen = []
    monkeypatch.setattr(course, "judge", lambda path, *, on, **other: seen.append(on) or judge(path, on=on, **other))
    return path, scores, seen


def test_a_file_whose_scores_are_stored_is_only_timed(one, capsys):
    _, scores, seen = one
    (entry,) = baselines(few())
    assert [len(on.public.labels) for on in seen] == [BATCH]
    assert counted(entry.scores) == counted(scores)
    assert entry.scores.milliseconds != scores.milliseconds  # of now
    assert 0.5 < entry.scores.ratio.mean < 2
    assert (entry.of_course, entry.name) == (True, "net.onnx (the course's)")
    assert capsys.readouterr().out == ""


def test_other_bytes_are_judged(one, capsys):
    path, _, seen = one
    path.write_bytes(renamed(path.read_bytes()))
    (entry,) = baselines(few())
    assert [len(on.public.labels) for on in seen] == [40]
    assert entry.scores.public.total == 40
    assert "no scores of these files on these digits are stored: net.onnx." in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [lambda on: on._replace(final=on.public), lambda on: on._replace(learned=on.public),
     lambda on: on._replace(public=on.public.take(torch.arange(39))),
     lambda on: on._replace(public=on.public._replace(labels=on.public.labels + 1)),
     lambda on: on._replace(worse={"clean": on.worse["clean"].flip(0)}),
     lambda on: on._replace(worse={"other": on.worse["clean"]})],
    ids=["final", "learned", "fewer", "labels", "worse images", "worse by another name"],
)  # fmt: skip
def test_on_other_digits_it_is_judged(change, one, capsys):
    assert identity(change(few())) != identity(few())
    assert identity(few()._replace(final=few().public)) != identity(few()._replace(learned=few().public))
    baselines(change(few()))
    assert [on.worse.keys() for on in one[2]] == [change(few()).worse.keys()]
    assert "Judged now" in capsys.readouterr().out


def test_another_attack_or_another_teacher_is_another_test(monkeypatch):
    before = identity(few())
    with monkeypatch.context() as patch:
        patch.setattr(course, "EPSILON", 0.1)
        assert identity(few()) != before
    monkeypatch.setattr(course, "SOURCES", {"small": "wide_teacher.safetensors", "wide": "teacher.safetensors"})
    assert identity(few()) != before


def test_a_file_that_no_longer_runs_has_no_stored_scores(one, monkeypatch):
    monkeypatch.setattr(course, "judge", lambda path, *, on, **other: judge(path, on=on)._replace(
        scores=None, refused="cannot be run"))  # fmt: skip
    assert baselines(few())[0].scores is None


def test_a_copy_in_other_bytes_is_the_twin_of_a_file_with_stored_outputs(one, tmp_path):
    (tmp_path / "copy.onnx").write_bytes(renamed(REFERENCE.read_bytes()))
    (entry,) = baselines(few())
    assert "the outputs of net.onnx" in twins([entry, judge(tmp_path / "copy.onnx", on=few())])["copy.onnx"]


def test_without_stored_results_all_are_judged(one, monkeypatch):
    def missing(job):
        raise FileNotFoundError(job)

    monkeypatch.setattr(course, "load_results", missing)
    baselines(few())
    assert [len(on.public.labels) for on in one[2]] == [40]


def test_the_scores_of_all_the_courses_files_are_stored():
    stored = load_results("baselines_judged")["records"]
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in course.files()}
    measured = [(record["sha256"], record["file"], record["on"]) for record in stored]
    assert {(sha256, name, on) for sha256, name in hashes.items() for on in RECIPE["sets"]} <= set(measured)
    for on in RECIPE["sets"]:  # by the same digits
        assert len({record["digits"] for record in stored if record["on"] == on}) == 1
    assert {"model.onnx", *SEEN} <= {path.name for path in course.files()}


@pytest.mark.parametrize("path", course.files(), ids=lambda path: path.name)
def test_the_stored_scores_are_those_of_the_judge(path):
    on = digits(full=False)
    stored = course.known()[hashlib.sha256(path.read_bytes()).hexdigest(), identity(on)]
    found = judge(path, on=on).scores
    # another processor attacks and rounds a few images differently
    assert abs(found.public.right - stored["public"].right) <= 2
    assert abs(found.robust.right - stored["robust"].right) <= 10
    assert {name: pytest.approx(count.right, abs=8) for name, count in found.versions.items()} == {
        name: count.right for name, count in stored["versions"].items()
    }
    gap = (found.logits - stored["logits"]).abs().max() / found.logits.abs().max()
    assert gap < 0.05
