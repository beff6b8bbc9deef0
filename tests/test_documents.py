"""What is written beside the code: its programs run, CONTRIBUTING names what there is, users find what changed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kdcourse
from kdcourse.exercises import exercises

ROOT = Path(__file__).resolve().parent.parent
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("*.md"))}
CONTRIBUTING, CHANGELOG = TEXTS["CONTRIBUTING"], TEXTS["CHANGELOG"]
PROGRAMS = re.findall(r"^```python\n(.*?)^```", "".join(TEXTS.values()), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.strip().splitlines()[-1])
def test_programs_run_as_they_are_printed(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(program, "as printed", "exec"), {})


def test_the_loop_of_ones_own_is_short_and_trains_the_student_alone():
    (program,) = (program for program in PROGRAMS if "DataLoader(" in program and "autocast(" in program)
    assert all(part in program for part in ("kd_loss(", ".backward()"))
    assert len([line for line in program.splitlines() if line and "import" not in line]) <= 25
    found = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(program, found)
    for name, untrained in (("teacher", {"channels": (16, 32)}), ("student", {"channels": (4, 8), "seed": 1})):
        weight = found["conv_net"](**untrained).classes.weight
        assert torch.equal(found[name].classes.weight.cpu(), weight) is (name == "teacher")
    assert found["loss"].dtype == torch.float32
    assert torch.isfinite(found["loss"])


def test_contributing_names_every_make_target_and_every_room():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()
    table = CONTRIBUTING[: CONTRIBUTING.index("## The house")]
    assert not [target for target in targets if f"`{target}`" not in table]
    house = CONTRIBUTING[CONTRIBUTING.index("## The house") : CONTRIBUTING.index("## Add a function")]
    rooms = {
        path.stem for path in (ROOT / "kdcourse").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert not [room for room in rooms - {"__init__", "__main__", "_base"} if f"`{room}`" not in house]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_links_to_files_resolve(text):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert not [link for link in links if not (ROOT / link).exists()]


def test_sections_up_to_which_teaching_goes_exist():
    named = re.findall(r"(\d\d) up\s+to\s+\*([^*]+)\*", TEXTS["TEACHING"])
    assert len(named) >= 4
    for number, title in named:
        (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        assert f"## {title}" in path.read_text(encoding="utf-8"), (number, title)


def test_the_sessions_have_every_exercise_once():
    plan = TEXTS["TEACHING"][: TEXTS["TEACHING"].index("## The contest")]
    listed = []
    for row in re.findall(r"^\| \d+ \| .*$", plan, re.MULTILINE):
        for first, last in re.findall(r"\b(\d\d\.\d+)(?:–(\d\d\.\d+))?", row):
            listed += [each for each in exercises if first <= each <= (last or first)]
    assert sorted(listed) == sorted(exercises)


def test_the_rubric_of_the_contest_adds_up():
    contest = TEXTS["TEACHING"].partition("## The contest")[2].partition("## What they")[0]
    points = [int(each) for each in re.findall(r"^\| (\d+) \| ", contest, re.MULTILINE)]
    assert f"**Rubric, {sum(points)} points.**" in contest
    assert f"The place is worth {['', 'one', 'two', 'three'][points[-1]]} of them." in contest


def test_the_changelog_has_this_version_and_what_comes_next():
    versions = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert versions[1] == kdcourse.__version__
    kinds = set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


DOWNSTREAM = """
import torch
from torch import Tensor, nn
from kdcourse.export import latency, run, to_onnx
from kdcourse.losses import kd_loss
from kdcourse.metrics import accuracy
from kdcourse.models import conv_net
from kdcourse.pruning import apply_masks, global_magnitude_masks
from kdcourse.quantization import fake_quantize_model
from kdcourse.training import History, distill
from kdcourse.data import Split

def small(student: nn.Module, teacher: nn.Module, split: Split) -> float:
    history: History = distill(student, teacher, split, epochs=1)
    apply_masks(student, global_magnitude_masks(student, 0.5))
    rounded: nn.Module = fake_quantize_model(student, weight_bits=4)
    loss: Tensor = kd_loss(rounded(split.images), teacher(split.images), temperature=4.0)
    to_onnx(student, "student.onnx", split.images, input_names=["images"])
    median: float = latency({"eager": lambda: student(split.images)})["eager"].median
    return accuracy(run("student.onnx", split.images), split.labels) + loss.item() + median + history.train_loss[0]
"""


@pytest.mark.slow
def test_a_program_on_top_of_the_package_is_type_checked_strictly(tmp_path):
    (tmp_path / "downstream.py").write_text(DOWNSTREAM, encoding="utf-8")
    wrong = DOWNSTREAM.replace("temperature=4.0", 'temperature="4"')
    (tmp_path / "wrong.py").write_text(wrong, encoding="utf-8")
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--untyped-calls-exclude=torch",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    for name, sound in (("downstream.py", True), ("wrong.py", False)):
        # an editable installation is a hook, which mypy cannot follow
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        result = subprocess.run([*mypy, name], cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert (result.returncode == 0) is sound, result.stdout
        assert sound or "temperature" in result.stdout
