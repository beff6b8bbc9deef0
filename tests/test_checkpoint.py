"""A run that is killed anywhere goes on bit for bit, and no run goes on with the checkpoint of another."""

import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from test_training import TRAIN, same, split, student, teacher, weights
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdcourse.data import Split, random_affine
from kdcourse.models import conv_net
from kdcourse.pruning import apply_masks, layer_magnitude_masks
from kdcourse.training import constant, distill, fit

EPOCHS, STEPS = 3, 9
VALIDATION = split(20, seed=1)


class Killed(BaseException):
    pass


def shuffled(generator_seed=5):
    """A DataLoader with a generator of its own, and one that draws from PyTorch's."""
    generator = None if generator_seed is None else torch.Generator().manual_seed(generator_seed)
    return DataLoader(TensorDataset(*TRAIN), batch_size=16, shuffle=True, generator=generator)


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True)


OFTEN = {"epochs": EPOCHS, "progress": False}
ON_SPLIT = OFTEN | {"batch_size": 16}
RUNS = {
    "fit with dropout and augmentation": (student, fit, lambda: TRAIN, ON_SPLIT | {"augment": random_affine()}),
    "batch norm, validation": (lambda: conv_net((4,)), fit, lambda: TRAIN, ON_SPLIT | {"validation": VALIDATION}),
    "distill": (student, lambda *args, **more: distill(args[0], teacher(), args[1], **more), lambda: TRAIN, ON_SPLIT),
    "a loader with a generator": (student, fit, shuffled, OFTEN | {"validation": shuffled(7)}),
    "a loader without": (student, fit, lambda: shuffled(None), OFTEN | {"optimizer": momentum, "clip_norm": 0.1}),
    "schedules": (
        student,
        lambda *args, **more: distill(args[0], teacher(), args[1], temperature=lambda p: 4 - p, alpha=0.5, **more),
        shuffled,
        OFTEN | {"schedule": constant, "seed": 4},
    ),
}  # fmt: skip
every_run = pytest.mark.parametrize("name", RUNS)


def start(name, model=None, **options):
    build, run, data, fixed = RUNS[name]
    model = build() if model is None else model
    return model, run(model, data(), **fixed | options)


def kill_at(step):
    """A ``before_step`` that kills at one step."""
    count = 0

    def before_step(done):
        nonlocal count
        count += 1
        if count > step:
            raise Killed

    return before_step


def recorded(history):
    return history.train_loss, history.validation_accuracy


@every_run
@pytest.mark.parametrize("step", range(STEPS))
def test_a_run_killed_at_any_step_goes_on_bit_for_bit(name, step, tmp_path):
    path, model = tmp_path / "run.pt", RUNS[name][0]()
    expected, whole = start(name)
    with pytest.raises(Killed):
        start(name, model, checkpoint=path, before_step=kill_at(step))
    torch.rand(17)  # something else in between
    if step % 2:
        model = RUNS[name][
            0
        ]()  # another process begins with a fresh network; one that catches, with the broken-off one
    model, history = start(name, model, checkpoint=path)
    assert same(weights(model), weights(expected))
    assert recorded(history) == recorded(whole)
    assert not model.training


@every_run
@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_a_run_killed_between_two_epochs_goes_on_bit_for_bit(name, epoch, tmp_path):
    path = tmp_path / "run.pt"
    expected, whole = start(name)

    def report(now, history):
        if now == epoch and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            raise Killed

    with pytest.raises(Killed):
        start(name, checkpoint=path, on_epoch=report)
    model, history = start(name, checkpoint=path, on_epoch=report)
    assert same(weights(model), weights(expected))
    assert recorded(history) == recorded(whole)


def test_a_run_killed_again_and_again_goes_on_bit_for_bit(tmp_path):
    name, path = "fit with dropout and augmentation", tmp_path / "run.pt"
    expected, _ = start(name)
    for _ in range(EPOCHS - 1):
        with pytest.raises(Killed):
            start(name, checkpoint=path, before_step=kill_at(4))  # one epoch further each time
    model, _ = start(name, checkpoint=path, before_step=kill_at(4))
    assert same(weights(model), weights(expected))


def test_a_process_killed_in_the_middle_leaves_a_checkpoint_that_another_goes_on_with(tmp_path):
    name, path = "fit with dropout and augmentation", tmp_path / "run.pt"
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_checkpoint import start
def before_step(done):
    if done > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
start({name!r}, checkpoint={str(path)!r}, before_step=before_step)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    )
    assert ended.returncode == -signal.SIGKILL
    seen = []
    model, history = start(name, checkpoint=path, before_step=seen.append)
    assert seen == [step / STEPS for step in range(3, STEPS)]
    assert len(history.train_loss) == EPOCHS
    assert same(weights(model), weights(start(name)[0]))


def test_a_finished_run_gives_its_network_and_history_again_without_a_step(tmp_path):
    path = tmp_path / "new folder" / "run.pt"
    first, history = start("batch norm, validation", checkpoint=path)
    steps = []
    again, told = start("batch norm, validation", checkpoint=path, on_epoch=lambda epoch, history: steps.append(epoch))
    assert steps == []
    assert same(weights(again), weights(first))
    assert recorded(told) == recorded(history)
    assert told.seconds > 0


def test_a_run_that_was_ended_early_stays_ended(tmp_path):
    path = tmp_path / "run.pt"
    first, history = start("distill", checkpoint=path, on_epoch=lambda epoch, history: epoch == 1)
    again, told = start("distill", checkpoint=path)
    assert len(told.train_loss) == len(history.train_loss) == 2
    assert same(weights(again), weights(first))


def test_a_checkpoint_changes_nothing():
    with tempfile.TemporaryDirectory() as folder:
        for name in RUNS:
            assert same(weights(start(name)[0]), weights(start(name, checkpoint=Path(folder) / name)[0]))


def test_buffers_that_are_not_in_the_state_dict_are_kept(tmp_path):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = student(dropout=0.0)
            self.register_buffer("seen", torch.zeros(()), persistent=False)

        def forward(self, images):
            if self.training:
                self.seen += 1
            return self.inner(images) * (1 + 0.1 * self.seen)

    RUNS["counting"] = (Counting, fit, lambda: TRAIN, ON_SPLIT)
    try:
        expected, _ = start("counting")
        with pytest.raises(Killed):
            start("counting", checkpoint=tmp_path / "run.pt", before_step=kill_at(7))
        model, _ = start("counting", checkpoint=tmp_path / "run.pt")
    finally:
        del RUNS["counting"]
    assert model.seen == expected.seen == STEPS
    assert same(weights(model), weights(expected))


# --- whose checkpoint it is -------------------------------------------------------------------------------------------

OTHER = {
    "epochs": {"epochs": 4},
    "seed": {"seed": 1},
    "schedule": {"schedule": constant},
    "optimizer": {"learning_rate": 1e-3},
    "batch_size": {"batch_size": 8},
    "clip_norm": {"clip_norm": 1.0},
    "augment": {"augment": random_affine()},
    "validation": {"validation": VALIDATION},
    "temperature": {"temperature": lambda done: 3 - done},
    "alpha": {"alpha": 0.5},
    "loss": {"loss": lambda *logits, **options: logits[0].mean()},
}


@pytest.mark.parametrize("what", OTHER)
def test_a_run_with_another_option_is_refused_naming_it(what, tmp_path):
    path = tmp_path / "run.pt"
    distill(student(), teacher(), TRAIN, checkpoint=path, **ON_SPLIT)
    kept = path.read_bytes()
    with pytest.raises(ValueError, match=rf"run.pt is the checkpoint of another run, which differs in .*\b{what}\b"):
        distill(student(), teacher(), TRAIN, checkpoint=path, **ON_SPLIT | OTHER[what])
    assert path.read_bytes() == kept


def test_another_network_teacher_data_or_function_is_refused(tmp_path):
    path, model, other = tmp_path / "run.pt", student(), Split(TRAIN.images.flip(0), TRAIN.labels)
    options = {"checkpoint": path, **ON_SPLIT}
    distill(student(), teacher(), TRAIN, **options)
    model.linear1.bias.requires_grad_(False)
    for wrong, what in (
        (lambda: distill(conv_net((4,)), teacher(), TRAIN, **options), "network"),
        (lambda: distill(model, teacher(), TRAIN, **options), "network"),
        (lambda: distill(student(dropout=0.0), teacher(), TRAIN, **options), "network"),
        (lambda: distill(student(), conv_net((4, 6), seed=2), TRAIN, **options), "teacher"),
        (lambda: distill(student(), teacher(), other, **options), "train"),
        (lambda: distill(student(), teacher(), shuffled(), checkpoint=path, **OFTEN), "train"),
        (lambda: fit(student(), TRAIN, **options), "function"),
    ):
        with pytest.raises(ValueError, match=rf"differs in .*\b{what}\b"):
            wrong()
    distill(student(), teacher(), TRAIN, **options)


@pytest.mark.parametrize(
    "damage", [lambda raw: b"", lambda raw: raw[:-100], lambda raw: b"no checkpoint", lambda raw: raw[:500]]
)
def test_a_file_that_is_no_checkpoint_is_refused_and_left(damage, tmp_path):
    path = tmp_path / "run.pt"
    fit(student(), TRAIN, checkpoint=path, **ON_SPLIT)
    path.write_bytes(damage(path.read_bytes()))
    left = path.read_bytes()
    with pytest.raises(ValueError, match="run.pt is not a checkpoint of a training run, or damaged: delete it"):
        fit(student(), TRAIN, checkpoint=path, **ON_SPLIT)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="run.pt is not a checkpoint"):
        fit(student(), TRAIN, checkpoint=path, **ON_SPLIT)
    assert path.read_bytes() != left


def test_a_checkpoint_is_read_without_running_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"form": "kdcourse.training 1", "state": Evil()}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        fit(student(), TRAIN, checkpoint=tmp_path / "run.pt", **ON_SPLIT)
    assert not (tmp_path / "ran").exists()


def test_state_that_could_not_be_read_back_is_refused_before_the_first_step(tmp_path):
    class Keeping(nn.Linear):
        def get_extra_state(self):
            return {"when": Path("now")}

        def set_extra_state(self, state):
            pass

    model, steps = nn.Sequential(nn.Flatten(), Keeping(784, 10)), []
    with pytest.raises(TypeError, match="numbers and tensors only, .* has a PosixPath"):
        fit(model, TRAIN, checkpoint=tmp_path / "run.pt", before_step=steps.append, **ON_SPLIT)
    assert steps == []
    assert list(tmp_path.iterdir()) == []


def test_parts_that_come_during_the_run_are_refused(tmp_path):
    def mask(model):
        apply_masks(model, layer_magnitude_masks(model, 0.5))

    model = student(dropout=0.0)
    with pytest.raises(ValueError, match="the network got other parts during the run"):
        fit(model, TRAIN, checkpoint=tmp_path / "run.pt", before_step=lambda done: mask(model), **ON_SPLIT)
    found = []
    for path in (None, tmp_path / "other.pt"):  # masks that were there before
        model = student(dropout=0.0)
        mask(model)
        fit(model, TRAIN, checkpoint=path, before_step=lambda done, model=model: mask(model), **ON_SPLIT)
        found.append(weights(model))
    assert same(*found)


def test_a_loss_that_is_not_finite_is_not_stored(tmp_path):
    path, calls = tmp_path / "run.pt", []

    def diverging(logits, labels):
        calls.append(1)
        return logits.sum() * (math.nan if len(calls) == 5 else 0.0)

    with pytest.raises(ValueError, match="no longer finite in epoch 2"):
        fit(student(), TRAIN, loss=diverging, checkpoint=path, **ON_SPLIT)
    model = student()
    calls.extend([1] * 9)
    history = fit(model, TRAIN, loss=diverging, checkpoint=path, **ON_SPLIT)
    assert len(history.train_loss) == EPOCHS
    assert all(torch.isfinite(value).all() for value in weights(model).values())
