"""The command line, ``python -m kdcourse``: doctor checks the set-up, lab opens the course, progress shows yours."""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

REINSTALL = "run make lab again, or pip install -r requirements.txt"


class Trouble(Exception):
    """What is wrong, and the remedy."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(f"{fault} → {remedy}")


def doctor() -> bool:
    """Print a line for each part of the set-up: ✔, ✘ with the remedy, – where it may be absent; True if no ✘."""
    sound = True
    for name, check in CHECKS.items():
        try:
            mark, text = "✔", check()
            if text.startswith("–"):
                mark, text = "–", text[2:]
        except Trouble as trouble:
            mark, text, sound = "✘", str(trouble), False
        except Exception as error:  # a broken install can raise anything
            mark, text, sound = "✘", f"{type(error).__name__}: {error} → {REINSTALL}", False
        print(f"{mark} {name:<10} {text}")
    return sound


def _python() -> str:
    return platform.python_version()  # pip refuses to install kdcourse on one that is too old


def _torch() -> str:
    try:
        import torch
        import torchvision
    except ImportError as error:
        raise Trouble(f"{error.name} is not installed", REINSTALL) from None
    except RuntimeError as error:  # operators missing: the two were built for different versions
        raise Trouble(f"torch and torchvision do not match ({error})", "install the pair in requirements.txt") from None
    return f"torch {torch.__version__}, torchvision {torchvision.__version__}"


def _packages() -> str:
    found, missing = [], []
    for name in ("jupyterlab", "ipywidgets", "matplotlib", "mlxtend", "safetensors"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        raise Trouble(f"missing: {', '.join(missing)}", REINSTALL)
    return ", ".join(found)


def _kernel() -> str:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        started = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        raise Trouble("there is no python3 kernel", "python -m ipykernel install --sys-prefix") from None
    if Path(started).is_absolute() and not os.path.samefile(Path(started).parent, Path(sys.executable).parent):
        raise Trouble(
            "the python3 kernel starts another Python than this one", "python -m ipykernel install --sys-prefix"
        )
    return "python3 starts this Python"


def _digits() -> str:
    from .data import load_mnist

    return " / ".join(f"{len(split.labels):,}" for split in load_mnist()) + " embedded digits, split as published"


def _full() -> str:
    from .data import FULL_SHA256, data_dir

    raw = Path(os.environ.get("KDCOURSE_DATA") or data_dir()) / "MNIST" / "raw"
    if all((raw / name).is_file() for name in FULL_SHA256):
        return "full MNIST is there"
    return "– full MNIST is not there; only `make results` needs it (data/README.md says how to get it)"


def _teacher() -> str:
    from .data import data_dir
    from .models import load_model

    try:
        load_model(data_dir() / "teacher.safetensors")
    except (FileNotFoundError, ValueError) as error:
        raise Trouble(str(error), "git checkout data/teacher.safetensors") from None
    return "data/teacher.safetensors loads"


def _threads() -> str:
    import torch

    return f"{torch.get_num_threads()} for PyTorch, {os.cpu_count()} processors seen"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "– none, and none is needed"
    return f"{torch.cuda.get_device_name()}; fit and distill use it with device='cuda'"


CHECKS: dict[str, Callable[[], str]] = {
    "Python": _python, "PyTorch": _torch, "packages": _packages, "kernel": _kernel, "digits": _digits,
    "full MNIST": _full, "teacher": _teacher, "threads": _threads, "GPU": _gpu,
}  # fmt: skip


def lab(arguments: list[str]) -> NoReturn:
    """Replace this process by JupyterLab on the first notebook; root and screenless machines are allowed for."""
    course = Path(__file__).resolve().parent.parent
    start = "notebooks/00_start_here.ipynb"
    if not (course / start).is_file():
        sys.exit("kdcourse: the notebooks are not here: run this in a checkout of the course")
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={course}"]
    command += [f"--LabApp.default_url=/lab/tree/{start}", "--log-level=CRITICAL"]
    # nothing leaves the machine: labconfig/ beside this file switches JupyterLab's news and update checks off, no list
    # of extensions is fetched, and npm, which may ask for its own newest version, is not called
    command += ["--LabApp.extension_manager=readonly", "--LanguageServerManager.autodetect=False"]
    searched = [str(Path(__file__).parent), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, searched))
    if getattr(os, "geteuid", lambda: 1)() == 0:
        command.append("--allow-root")
    screen = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not screen:
        command.append("--no-browser")
    print("JupyterLab is starting. Open the address below that begins with http://127.0.0.1; Ctrl-C twice ends it.")
    sys.stdout.flush()
    os.execv(sys.executable, command + arguments)


def main() -> int:
    """Run one of the commands; 0 when all is well."""
    parser = argparse.ArgumentParser(prog="python -m kdcourse", description="kdcourse, from a shell")
    parser.add_argument(
        "command",
        choices=["doctor", "lab", "progress"],
        help="doctor: check the set-up; lab: open the course; progress: which exercises you have solved",
    )
    options, rest = parser.parse_known_args()
    if options.command == "lab":
        lab(rest)
    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    if options.command == "progress":
        from .exercises import progress

        progress()
        return 0
    return 0 if doctor() else 1


if __name__ == "__main__":
    sys.exit(main())
