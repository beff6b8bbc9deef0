"""Judging is the same whatever a notebook has switched on, and leaves all of it as it was."""

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from .modes import default_device


@contextmanager
def neutral() -> Iterator[None]:
    """Inside the block every mode that changes results is PyTorch's and NumPy's default; afterwards it is put back.

    Modes: gradients, inference, autocast, anomaly detection, default dtype and device, determinism, matrix-product
    precision, threads; NumPy's handling of errors; warnings filters.
    """
    dtype, device = torch.get_default_dtype(), default_device()
    deterministic = torch.get_deterministic_debug_mode()
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    try:
        torch.set_default_dtype(torch.float32)
        torch.set_deterministic_debug_mode("default")
        torch.set_float32_matmul_precision("highest")
        with ExitStack() as modes:
            for mode in _modes():
                modes.enter_context(mode)
            warnings.resetwarnings()
            warnings.simplefilter("ignore")
            for shown in (UserWarning, RuntimeWarning):  # what a learner can do something about
                warnings.simplefilter("default", shown)
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_deterministic_debug_mode(deterministic)
        torch.set_float32_matmul_precision(precision)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)


def _modes() -> Iterator[Any]:
    yield torch.inference_mode(False)
    yield torch.enable_grad()
    yield torch.autograd.set_detect_anomaly(False)
    yield torch.autocast("cpu", enabled=False)
    if torch.is_autocast_enabled("cuda"):
        yield torch.autocast("cuda", enabled=False)
    if default_device().type != "cpu":
        yield torch.device("cpu")
    yield np.errstate(over="warn", divide="warn", invalid="warn", under="ignore")
    yield warnings.catch_warnings()


@contextmanager
def untouched() -> Iterator[None]:
    """After the block random numbers go on, and figures look, as if it had not run; inside, random numbers start again.

    Random numbers: PyTorch's, NumPy's and Python's. Figures: Matplotlib's settings and backend.
    """
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices, device_type="cuda"), _figures_as_they_were():
        try:
            draw_anew(0)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def draw_anew(seed: int) -> None:
    """Start PyTorch's, NumPy's and Python's random numbers at ``seed``; a GPU's are left alone."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def _figures_as_they_were() -> Iterator[None]:
    if "matplotlib" not in sys.modules:
        yield
        return
    import matplotlib

    backend = matplotlib.get_backend(auto_select=False)
    with matplotlib.rc_context():  # which leaves the backend out
        try:
            yield
        finally:
            if backend is not None and matplotlib.get_backend(auto_select=False) != backend:
                matplotlib.use(backend)
