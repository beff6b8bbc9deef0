"""Run a program with an empty home in a network that leads nowhere, and see what it asks for and what it leaves.

Nothing is ever sent: every packet goes to a loopback device that no other program sees. What the program and all that
it starts ask of the kernel is written down, so that code in any language is seen.
"""

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = {"unshare": "util-linux", "ip": "iproute2", "strace": "strace"}
NAMESPACE = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c",
             'ip link set lo up && ip route add default dev lo && exec "$@"', "sh"]  # fmt: skip
TRACED = "trace=connect,sendto,sendmsg,sendmmsg,open,openat,creat"
PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
ADDRESS = re.compile(r'inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"')
OPENED = re.compile(r'(?:open|openat|creat)\((?:[^,"]*<([^>]*)>, )?"((?:[^"\\]|\\.)*)".* = \d+(?:<|$)')

# what Jupyter, IPython and Matplotlib keep of their own in a home: settings, history, a list of fonts
TOOLS_OWN = re.compile(r"\.(ipython|jupyter|cache/matplotlib|config/matplotlib|local/share/jupyter)/")


@dataclass(frozen=True)
class Seen:
    """How a program ended, the addresses it wanted to reach, and files: in its home, temporary, and anywhere else."""

    result: subprocess.CompletedProcess[str]
    asked: set[str]
    home: set[str]
    temporary: set[str]
    elsewhere: set[str]


@cache
def missing() -> str:
    """What is wanting for a fence here; "" where nothing is."""
    for program, package in TOOLS.items():
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: apt install {package})"
    tried = subprocess.run([*NAMESPACE, *tracer(Path(os.devnull)), "true"], capture_output=True, text=True)
    return f"no network namespace can be made here: {tried.stderr.strip()}" if tried.returncode else ""


def tracer(log: Path) -> list[str]:
    return ["strace", "-f", "-y", "-qq", "--seccomp-bpf", "-s", "4096", "-e", TRACED, "-e", "signal=none",
            "-o", str(log)]  # fmt: skip


def run(command: list[str], folder: Path, *, cwd: Path, seconds: float = 300, **environment: str) -> Seen:
    """Run ``command`` behind the fence; its home and its temporary folder are new ones in ``folder``.

    Of the environment it gets what is named here alone: neither CI nor anything that switches a message off.
    """
    home, temporary = folder / "home", folder / "temporary"
    home.mkdir(parents=True)
    temporary.mkdir()
    given = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1",
             "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RES_OPTIONS": "timeout:1 attempts:1"}  # fmt: skip
    log = folder / "trace"
    process = subprocess.Popen(
        [*NAMESPACE, *tracer(log), *command], cwd=cwd, env=given | environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return Seen(
        subprocess.CompletedProcess(command, process.returncode, output, errors), addresses(lines), files(home),
        files(temporary), {path for path in written(lines) if not path.startswith((f"{folder}/", "/dev/", "/proc/"))},
    )  # fmt: skip


def addresses(lines: list[str]) -> set[str]:
    """Every internet address that a call named, but this machine's own; a name server's, wherever it is."""
    found = set()
    for line in lines:
        port, address = PORT.search(line), ADDRESS.search(line)
        if port and address and (port[1] == "53" or not (address[1].startswith("127.") or address[1] == "::1")):
            found.add(f"{address[1]} port {port[1]}")
    return found


def written(lines: list[str]) -> set[str]:
    """Every file that was opened to be written, whether it is still there or not."""
    opened = (OPENED.search(line) for line in lines if re.search(r"\bcreat\(|\bO_(WRONLY|RDWR|CREAT)\b", line))
    return {os.path.normpath(Path(match[1] or "/", match[2])) for match in opened if match}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def strange(home: set[str]) -> set[str]:
    """What in a home is of none of the course's tools."""
    return {path for path in home if not TOOLS_OWN.match(path)}
