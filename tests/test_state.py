"""The state of others: what a check, a seeded block and a figure find switched on they leave on, and judge alike."""

import base64
import contextlib
import io
import random
import signal
import threading
import time
import warnings
from unittest import mock

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from kdcourse import plots
from kdcourse.exercises import exercises
from kdcourse.exercises.engine import checking
from kdcourse.exercises.engine.checking import judge
from kdcourse.models import conv_net, mlp
from kdcourse.seeds import seeded

# ---- a check judges alike under every state, and leaves it


@contextlib.contextmanager
def _set(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


@contextlib.contextmanager
def _warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


STATES = {
    "nothing": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "gradients off": lambda: _set(torch.set_grad_enabled, False, True),
    "inference_mode": torch.inference_mode,
    "float64 by default": lambda: _set(torch.set_default_dtype, torch.float64, torch.float32),
    "float16 by default": lambda: _set(torch.set_default_dtype, torch.float16, torch.float32),
    "meta by default": lambda: _set(torch.set_default_device, "meta", None),
    "meta around it": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic": lambda: _set(torch.set_deterministic_debug_mode, "error", "default"),
    "low precision": lambda: _set(torch.set_float32_matmul_precision, "medium", "highest"),
    "warnings as errors": _warnings_as_errors,
    "NumPy raises": lambda: np.errstate(all="raise"),
    "dark figures": lambda: matplotlib.style.context("dark_background"),
}  # fmt: skip


def state():
    """All that a check could leave otherwise."""
    return {
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,  # in PyTorch 2.8 its own function fails after a reset
        "autocast": torch.is_autocast_enabled("cpu"),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "NumPy": np.geterr(),
        "warnings": list(warnings.filters),
        "figures": dict(matplotlib.rcParams),
        "backend": matplotlib.get_backend(),
        "torch draws": torch.get_rng_state().numpy().tobytes(),
        "NumPy draws": np.random.get_state()[1].tobytes(),
        "Python draws": random.getstate(),
        "handler": signal.getsignal(signal.SIGALRM) if hasattr(signal, "SIGALRM") else None,
    }


def answers(exercise):
    return [exercise.reference, *(misconception.wrong for misconception in exercise.misconceptions)]


def verdicts(exercise):
    return [(found.kind, found.text) for found in (judge(exercise, answer) for answer in answers(exercise))]


JUDGED = [exercises[id] for id in ("00.2", "02.1", "03.4", "07.1")]  # numbers, tensors, gradients, integers


@pytest.fixture(scope="module")
def expected():
    found = {exercise.id: verdicts(exercise) for exercise in JUDGED}
    assert all(kinds[0][0] == "right" and "right" not in dict(kinds[1:]) for kinds in found.values())
    return found


@pytest.mark.parametrize("switched_on", STATES.values(), ids=STATES)
def test_answers_are_judged_alike_under_every_state_and_all_of_it_is_left(switched_on, expected):
    checking._expected.cache_clear()  # the reference and the misconceptions, too, run in this state
    checking._mistaken.cache_clear()
    with switched_on():
        before = state()
        found = {exercise.id: verdicts(exercise) for exercise in JUDGED}
        assert state() == before
    assert found == expected


def meddle():
    """What an answer may do to the state of its caller."""
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    np.seterr(all="raise")
    warnings.simplefilter("error")
    matplotlib.style.use("dark_background")
    matplotlib.use("svg")


def test_what_an_answer_switches_on_ends_with_its_check():
    exercise = exercises["02.1"]

    def answer(*arguments, **keywords):
        meddle()
        return exercise.reference(*arguments, **keywords)

    before = state()
    judge(exercise, answer)
    assert state() == before


def test_the_verdict_on_random_answers_is_the_same_every_time():
    exercise = exercises["00.2"]
    found = [judge(exercise, lambda *_: random.random() + np.random.rand() + torch.rand(()).item()) for _ in range(2)]
    assert found[0].kind == "random"
    assert found[0] == found[1]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_the_callers_timer_goes_on_after_a_check():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 30, 7)
        judge(exercises["00.2"], exercises["00.2"].reference)
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 20 < left <= 30
        assert interval == 7
        assert not rung
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        judge(exercises["00.2"], lambda distilled, alone: time.sleep(0.2))
        time.sleep(0.01)
        assert len(rung) == 1  # what ran out meanwhile rings afterwards
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- figures


def figures():
    """Pictures of what the course draws, and of what a notebook adds to it."""
    figure, ((one, two), (three, four)) = plots.axes_grid(2, 2, height=6)
    plots.curves(one, {"alone": [0.9, 0.6], "distilled": [0.8, 0.4]}, title="Training", ylabel="loss (nats)")
    one.annotate("a remark", (1.5, 0.7))
    plots.matrix(two, torch.tensor([[9, 7], [1, 8]]), title="Confusions", xlabel="predicted", ylabel="label")
    plots.class_bars(three, torch.tensor([0.1, 0.7, 0.2]), title="A digit", label=1)
    points = [plots.Point("a", "float", 10, 0.9), plots.Point("b", "int8", 2, 0.8), plots.Point("c", "int8", 5, 0.7)]
    plots.pareto(four, points, title="Front", xlabel="bytes")
    four.legend()
    return plots.picture(figure, "Four figures of the course, in one")


@pytest.mark.parametrize("style", ["dark_background", "Solarize_Light2", "grayscale"])
def test_figures_are_dark_on_white_under_every_style(style):
    usual = figures()
    with matplotlib.style.context(style):
        before = dict(matplotlib.rcParams)
        found = figures()
        assert dict(matplotlib.rcParams) == before
    if style == "dark_background":  # it changes colours and nothing else
        assert found == usual
    shown = plt.imread(io.BytesIO(base64.b64decode(found.partition("base64,")[2].partition('"')[0])))
    assert shown[..., :3].mean() > 0.8


# ---- random numbers


def test_work_on_the_cpu_neither_reads_nor_seeds_any_gpu():
    with mock.patch.multiple(
        "torch.cuda", is_available=mock.DEFAULT, device_count=mock.DEFAULT, get_rng_state=mock.DEFAULT,
        set_rng_state=mock.DEFAULT, manual_seed=mock.DEFAULT, manual_seed_all=mock.DEFAULT, _lazy_init=mock.DEFAULT,
    ) as cuda:  # fmt: skip
        cuda["is_available"].return_value, cuda["device_count"].return_value = True, 2
        conv_net((4,))
        mlp((4,))
        judge(exercises["00.2"], exercises["00.2"].reference)
        for name in ("get_rng_state", "set_rng_state", "manual_seed", "manual_seed_all", "_lazy_init"):
            assert not cuda[name].called, name


def test_a_device_that_is_named_is_seeded_and_put_back_and_no_other():
    kept = torch.zeros(16)
    with mock.patch.multiple(
        "torch.cuda", get_rng_state=mock.DEFAULT, set_rng_state=mock.DEFAULT, manual_seed=mock.DEFAULT,
        manual_seed_all=mock.DEFAULT, device=mock.DEFAULT,
    ) as cuda:  # fmt: skip
        cuda["get_rng_state"].return_value = kept
        with seeded(7, "cuda:1"):
            cuda["get_rng_state"].assert_called_once_with(torch.device("cuda:1"))
            cuda["device"].assert_called_once_with(torch.device("cuda:1"))
            cuda["manual_seed"].assert_called_once_with(7)
            assert not cuda["set_rng_state"].called
        cuda["set_rng_state"].assert_called_once_with(kept, torch.device("cuda:1"))
        assert not cuda["manual_seed_all"].called


def test_threads_that_draw_at_once_get_what_each_gets_alone():
    def draw(seed):
        with seeded(seed):
            return torch.stack([_slow_draw() for _ in range(10)])

    alone = [draw(seed) for seed in range(4)]
    state_before = torch.get_rng_state()
    together = [None] * 4
    threads = [threading.Thread(target=lambda seed=seed: together.__setitem__(seed, draw(seed))) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert torch.equal(torch.get_rng_state(), state_before)


def _slow_draw():
    time.sleep(0.002)  # lets another thread in
    return torch.rand(3)
