"""The attacks of ``tests/attacks`` as submissions to a class, with a listener for those that try the network."""

import hashlib
import socket
import threading
import tomllib
from contextlib import contextmanager, suppress
from pathlib import Path

from classes import answer

from kdcourse.exercises import exercises

HERE = Path(__file__).resolve().parents[1] / "attacks"
MOST = 50
"""connections after which the listener ends"""


def attacks(*names):
    return [attack for name in names for attack in tomllib.loads((HERE / f"{name}.toml").read_text("utf-8"))["attack"]]


def code(attack, places):
    """The cell's source; where it does not mention the function, the untouched skeleton follows."""
    text = eval(attack["generate"]) if "generate" in attack else attack["cell"]
    for name, value in places.items():
        text = text.replace(name, str(value))
    exercise = exercises[attack.get("in", "03.1")]
    return text if exercise.name in text else f"{text.rstrip()}\n\n\n{exercise.skeleton}\n"


def hand_in(course, attack, places):
    notebook = course.solved() if attack.get("keeps") else course.released()
    answer(notebook, attack.get("in", "03.1")).source = code(attack, places)
    course.submit(attack["id"], notebook)


@contextmanager
def listening():
    """A port of this machine's own at which TCP and UDP are heard; what came, and from where, is in the list."""
    heard, ends = [], threading.Event()
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", tcp.getsockname()[1]))

    def wait(take):
        while not ends.is_set() and len(heard) < MOST:
            with suppress(TimeoutError):
                heard.append(take())

    def accept():
        connection, address = tcp.accept()
        connection.close()
        return address

    listeners = [threading.Thread(target=wait, args=(take,)) for take in (accept, lambda: udp.recvfrom(64))]
    for door, listener in zip((tcp, udp), listeners, strict=True):
        door.settimeout(0.2)
        listener.start()
    try:
        yield tcp.getsockname()[1], heard
    finally:
        ends.set()
        for listener in listeners:
            listener.join()
        tcp.close()
        udp.close()


def state(folder):
    """What must not change: the files of the course that no grading writes."""
    kept = [
        *folder.glob("source/**/*"),
        *folder.glob("release/**/*"),
        *folder.glob("submitted/**/*"),
        folder / "nbgrader_config.py",
    ]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept if path.is_file()}


def graded(course, chosen, elsewhere, pages=()):
    """The rows of the grades by attack, and what the listener heard; two honest students are in the class."""
    elsewhere.mkdir()
    course.submit("0_honest", course.solved())
    course.submit("zz_honest", course.solved())
    with listening() as (port, heard):
        places = {"PORT": port, "COURSE": course.folder, "ELSEWHERE": elsewhere}
        for attack in chosen:
            hand_in(course, attack, places)
        before = state(course.folder)
        rows = course.autograde(pages=pages)
        assert state(course.folder) == before
    return rows, heard


def table(chosen, rows):
    """Points before and after, as the report wants them."""
    lines = [f"{'id':<6} {'before':>6} {'after':>6}  tries"]
    for attack in chosen:
        before = attack.get("before", "")
        lines.append(f"{attack['id']:<6} {before:>6} {float(rows[attack['id']]['score']):>6g}  {attack['tries']}")
    return "\n".join(lines)
