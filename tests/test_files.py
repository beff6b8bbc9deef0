"""Files: whatever goes wrong at whatever step, the old content is whole or the new one is, with nothing beside it."""

import contextlib
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from file_users import USERS, record, recorded, store

from kdcourse._base import files
from kdcourse.exercises.engine import records

HERE = Path(__file__).resolve().parent
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and signals")
every_user = pytest.mark.parametrize("user", USERS.values(), ids=USERS)


@pytest.fixture
def folder(tmp_path):
    """With a name that makes trouble: a blank, a quote, other letters."""
    made = tmp_path / "it's 中文 é"
    made.mkdir()
    return made


def complaint(user, path, which, capsys):
    """What a write that fails says: what it raises, or for progress, which never raises, prints."""
    try:
        user.write(path, which)
    except OSError as error:
        return str(error)
    return capsys.readouterr().out


# ---- faults × steps × users


def failing(step, number):
    """A patch that lets this step of every write fail with this error, a write of the content after half of it."""

    def fail(*arguments, **keywords):
        raise OSError(number, os.strerror(number))

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        fail()

    real = os.open

    def create(name, *arguments):
        return (
            fail() if os.fspath(name).endswith({"create": ".part", "lock": ".lock"}[step]) else real(name, *arguments)
        )

    return {
        "lock": mock.patch.object(os, "open", create),
        "create": mock.patch.object(os, "open", create),
        "write": mock.patch.object(Path, "write_bytes", half),
        "flush": mock.patch.object(os, "fsync", fail),
        "rename": mock.patch.object(os, "replace", fail),
    }[step]


STEPS = [(step, name) for step in ("create", "write", "flush", "rename") for name in USERS]
STEPS += [("lock", "progress"), ("lock", "results")]
FAULTS = ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ESTALE", "EIO"]


@pytest.mark.parametrize(("step", "name"), STEPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_step_leaves_the_old_file_whole_and_is_one_sentence(
    fault, step, name, folder, capsys, monkeypatch
):
    user = USERS[name]
    monkeypatch.setattr(files, "WAITS", (0, 0))
    path, number = folder / "file", getattr(errno, fault)
    with failing(step, number):
        complaint(user, path, 0, capsys)
    assert os.listdir(folder) == []
    user.write(path, 0)
    before = path.read_bytes()
    capsys.readouterr()
    with failing(step, number):
        said = complaint(user, path, 1, capsys)
    assert path.read_bytes() == before
    assert os.listdir(folder) == ["file"]
    assert f"cannot {'change' if step == 'lock' else 'write'} {path}: " in said
    assert ".part" not in said
    assert ".lock" not in said
    assert files.REASONS.get(number, os.strerror(number)) in said
    assert len(said.splitlines()) == 1
    user.write(path, 1)  # and the next one is written
    assert path.read_bytes() != before


@every_user
def test_a_fault_that_passes_is_none(user, folder, monkeypatch):
    monkeypatch.setattr(files, "WAITS", (0, 0))
    real, calls = os.replace, []

    def stale_once(*names):
        calls.append(names)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, "stale")
        real(*names)

    with mock.patch.object(os, "replace", stale_once):
        user.write(folder / "file", 0)
    assert len(calls) >= 2
    assert os.listdir(folder) == ["file"]


@every_user
def test_a_file_or_folder_that_is_not_writable_stays_as_it_is(user, folder, capsys, monkeypatch):
    path = folder / "file"
    user.write(path, 0)
    before = path.read_bytes()
    capsys.readouterr()
    monkeypatch.setattr(os, "access", lambda name, kind: False)  # root may write everything
    assert "no permission" in complaint(user, path, 1, capsys)
    assert path.read_bytes() == before
    assert os.listdir(folder) == ["file"]


@every_user
def test_a_folder_or_a_device_in_the_files_place_is_named_and_kept(user, folder, capsys):
    (folder / "file").mkdir()
    assert "it is a folder" in complaint(user, folder / "file", 0, capsys)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        assert "it is a device or a pipe" in complaint(user, folder / "pipe", 0, capsys)
        assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)


def test_every_file_that_is_written_is_written_by_the_one_module():
    """Other ways to write are allowed in folders that are made for it and thrown away."""
    allowed = {
        "kdcourse/_base/files.py", "kdcourse/data.py", "kdcourse/exercises/engine/records.py",
        "kdcourse/training/checkpoint.py",  # torch.save into memory
        "kdcourse/classroom/releasing.py", "kdcourse/classroom/staging.py", ".ci/site/stage.py", ".ci/versions.py",
        "kdcourse/_base/namespaces.py",  # to /proc
        "kdcourse/contest/inside.py", "kdcourse/contest/trying.py",
    }  # fmt: skip
    writes = [
        ".write_text(",
        ".write_bytes(",
        "os.replace(",
        "save_file(",
        '.open("w',
        "np.save",
        "torch.save(",
        "json.dump(",
    ]
    root = HERE.parent
    scripts = [*root.glob("kdcourse/**/*.py"), *root.glob("data/**/*.py"), *root.glob(".ci/**/*.py")]
    assert len(scripts) > 50
    found = {
        path.relative_to(root).as_posix()
        for path in scripts
        if any(way in path.read_text(encoding="utf-8") for way in writes)
    }
    assert found <= allowed


# ---- reading


@pytest.mark.parametrize("user", [USERS["progress"], USERS["results"]], ids=["progress", "results"])
@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "stale"), OSError(errno.EIO, "input/output")])
@pytest.mark.parametrize("often", [1, 1000])
def test_a_read_that_fails_never_empties_the_file(user, error, often, folder, capsys, monkeypatch):
    monkeypatch.setattr(files, "WAITS", (0, 0))
    path = folder / "file"
    user.write(path, 0)
    before, real, left = user.read(path), Path.read_bytes, [often]

    def read(self):
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return real(self)

    capsys.readouterr()
    with mock.patch.object(Path, "read_bytes", read):
        said = complaint(user, path, 1, capsys)
    if often == 1:
        assert said == ""
        assert len(user.read(path)) == 2
    else:
        assert f"cannot read {path}" in said
        assert user.read(path) == before
    assert os.listdir(folder) == ["file"]


def test_half_a_read_is_no_damage(folder, capsys):
    path = folder / "file"
    record(path, 0)
    real, left = Path.read_bytes, [1]

    def read(self):
        left[0] -= 1
        return real(self)[: 5 if left[0] >= 0 else None]

    with mock.patch.object(Path, "read_bytes", read):
        record(path, 1)
    assert recorded(path) == ["00.1", "00.2"]
    assert capsys.readouterr().out == ""


ODD = [
    "NaN",
    "Infinity",
    "-Infinity",
    "-1",
    "1e400",
    "1" + 5000 * "0",
    "1" + 30 * "0",
    "true",
    "null",
    "1.5",
    "[1]",
    '{"a": 1}',
    '"1"',
]


@pytest.mark.parametrize("number", ODD, ids=lambda text: text[:9])
def test_odd_numbers_are_damage_and_are_set_aside(number, folder, capsys):
    path = folder / "progress.json"
    path.write_text(f'{{"00.1": {{"tries": {number}, "solved": true}}}}')
    record(path, 1)
    assert "progress.damaged-1.json" in capsys.readouterr().out
    assert sorted(os.listdir(folder)) == ["progress.damaged-1.json", "progress.json"]
    assert recorded(path) == ["00.2"]
    path.write_text('{"00.1": {"tries": 1, "solved": 1}}')
    assert recorded(path) == []
    (folder / "job.json").write_text(f'{{"recipe": {{}}, "environment": {{}}, "records": {number}}}')
    with pytest.raises(ValueError, match="is damaged"):
        store.load(folder / "job.json")


def test_a_damaged_file_that_cannot_be_moved_is_kept(folder, capsys):
    path = folder / "file"
    path.write_text("{")
    with mock.patch.object(records.os, "replace", side_effect=OSError(errno.EACCES, "no")):
        record(path, 0)
        assert "is damaged and cannot be moved" in capsys.readouterr().out
        assert recorded(path) == []
    assert path.read_text() == "{"


# ---- links and permissions


@posix
@every_user
def test_a_link_stays_a_link(user, folder):
    (folder / "elsewhere").mkdir()
    link, target = folder / "file", folder / "elsewhere" / "real"
    link.symlink_to(target)  # to nothing yet
    for which in (0, 1):
        user.write(link, which)
        assert link.is_symlink()
        assert user.read(target) == user.read(link)
    assert sorted(os.listdir(folder)) == ["elsewhere", "file"]
    assert os.listdir(folder / "elsewhere") == ["real"]


@posix
@every_user
def test_permissions_follow_the_umask_and_then_the_file_that_was_there(user, folder):
    path, own = folder / "file", 0o600 if user is USERS["progress"] else 0o666
    before = os.umask(0o027)
    try:
        user.write(path, 0)
        assert stat.S_IMODE(path.stat().st_mode) == own & ~0o027
        for mode in (0o600, 0o664):
            path.chmod(mode)
            user.write(path, mode % 3)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


@posix
def test_an_owner_that_differs_is_kept_where_that_is_allowed(folder):
    path = folder / "file"
    files.write_whole(path, "old")
    theirs = os.stat_result((0o100640, *path.stat()[1:4], 12345, 12346, *path.stat()[6:]))
    real = Path.stat
    with (
        mock.patch.object(Path, "stat", lambda self, **keywords: theirs if self == path else real(self, **keywords)),
        mock.patch.object(os, "chown") as chown,
    ):
        files.write_whole(path, "new")
        chown.side_effect = PermissionError
        files.write_whole(path, "newer")
    assert chown.call_args.args[1:] == (12345, 12346)
    assert path.read_text() == "newer"


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
@every_user
def test_a_file_system_without_permissions_or_flushing_will_do(error, user, folder):
    path = folder / "file"
    user.write(path, 0)
    path.chmod(0o640)
    fail = mock.Mock(side_effect=OSError(error, "not here"))
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(Path, "chmod", fail))
        if error != errno.EPERM:
            patches.enter_context(mock.patch.object(os, "fsync", fail))
        user.write(path, 1)
    assert fail.called
    assert os.listdir(folder) == ["file"]


def test_a_name_as_long_as_names_may_be(folder):
    path = folder / ("é" * 127)
    files.write_whole(path, "text")
    with files.exclusive(path):
        assert files.read_whole(path) == b"text"
    assert os.listdir(folder) == [path.name]


# ---- leftovers


def leftover(path, *, machine=None, process=None, age=0.0):
    """A temporary file as a writer of ``path`` leaves it when it is killed."""
    name = files._temporary(path).name
    mine = [files._machine(), str(os.getpid())]
    for own, other in zip(mine, (machine, process), strict=True):
        name = name.replace(own, str(other or own))
    made = path.with_name(name)
    made.write_text("half")
    os.utime(made, (time.time() - age,) * 2)
    return made


@posix
def test_leftovers_go_with_the_next_write_and_never_those_of_a_writer_at_work(folder):
    path = folder / "file"
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        kept = [
            leftover(path, process=child.pid),  # at work
            leftover(path, machine="0" * 8, process=3),  # perhaps at work on another machine
            leftover(path.with_name("file2")),  # another file's
        ]
        with files.replacing(path) as own:
            kept.append(own)
            gone = [
                leftover(path),  # this process's, before it was restarted under the same number
                leftover(path, machine="0" * 8, process=3, age=2 * files.DAY),
            ]
            files.write_whole(path, "text")
            assert all(found.exists() for found in kept)
            assert not any(found.exists() for found in gone)
    finally:
        child.communicate(b"\n")
    assert kept[0].exists()
    files.write_whole(path, "text")
    assert not kept[0].exists()  # its process has ended
    assert kept[1].exists()


# ---- several at once


def run_threads(count, work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_lose_no_record(folder, monkeypatch):
    path = folder / "progress.json"
    monkeypatch.setenv("KDCOURSE_PROGRESS", str(path))
    monkeypatch.setattr(store, "environment", lambda device: {})

    def work(thread):
        for number in range(8):
            records.record(f"{thread}.{number}", solved=True)
            records.record("99.9", solved=False)
            store.resume(folder / "job.json", {"seed": 8 * thread + number}, dict, recipe={})

    run_threads(4, work)
    assert len(records.load()) == 33
    assert records.load()["99.9"]["tries"] == 32
    assert sorted(found["seed"] for found in store.load(folder / "job.json")["records"]) == list(range(32))
    assert sorted(os.listdir(folder)) == ["job.json", "progress.json"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_processes_lose_no_record_and_none_reads_half_a_file(folder):
    program = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import file_users as f
folder = Path(sys.argv[2])
f.USERS["checkpoint"].write(folder / "network", 0)
children = []
for child in range(3):
    children.append(os.fork())
    if not children[-1]:
        for number in range(20):
            f.records.record(f"{child}.{number}", solved=True)
            f.resume(folder / "job.json", 20 * child + number)
            f.USERS["checkpoint"].write(folder / "network", child)
            f.USERS["checkpoint"].read(folder / "network")
        os._exit(0)
print([os.waitpid(child, 0)[1] for child in children])
"""
    environment = {**os.environ, "KDCOURSE_PROGRESS": str(folder / "progress.json")}
    command = [sys.executable, "-W", "ignore", "-c", program, str(HERE), str(folder)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert found.stdout == "[0, 0, 0]\n", found.stdout + found.stderr
    assert len(json.loads((folder / "progress.json").read_text())) == 60
    assert sorted(found["seed"] for found in store.load(folder / "job.json")["records"]) == list(range(60))
    assert sorted(os.listdir(folder)) == ["job.json", "network", "progress.json"]


def test_a_measurement_that_another_process_has_made_meanwhile_is_taken_from_it(folder):
    path = folder / "job.json"

    def slow():
        store.resume(path, {"seed": 0}, lambda: {"errors": 3}, recipe={})  # the other process
        return {"errors": 4}

    assert store.resume(path, {"seed": 0}, slow, recipe={})["errors"] == 3
    assert len(store.load(path)["records"]) == 1


@pytest.mark.parametrize(
    "left",
    ["", "garbage", "filelock/2\npid=3\nhost=elsewhere\nmode=lease\ntoken=a\nduration=0.5\n", "live"],
    ids=["unsigned", "garbage", "of another machine", "of this process"],
)
def test_a_lock_that_was_left_behind_is_taken_over(left, folder, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", (3.0, 4.0) if left.startswith(("g", "f")) else (0.2, 4.0))
    monkeypatch.setattr(files, "LEASE", 0.5)
    path = folder / "file"
    lock = files._beside(path, "lock")
    if left == "live":
        abandoned = files.SoftFileLease(lock, lease_duration=0.5)
        abandoned.acquire()
    else:
        lock.write_text(left)
    record(path, 0)
    assert recorded(path) == ["00.1"]
    assert os.listdir(folder) == ["file"]


def test_a_lock_that_is_held_is_waited_for_and_in_the_end_named(folder, monkeypatch, capsys):
    monkeypatch.setattr(files, "PATIENCE", (0.1, 0.2))
    path = folder / "file"
    program = (
        "import sys; from pathlib import Path; from kdcourse._base.files import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('in', flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "in\n"
        record(path, 0)
        said = capsys.readouterr().out
        assert "Your progress cannot be kept" in said
        assert str(files._beside(path, "lock")) in said
        assert len(said.splitlines()) == 1
        holder.communicate("\n")
    assert holder.returncode == 0
    record(path, 0)
    assert os.listdir(folder) == ["file"]


# ---- killed


def kill(folder, *jobs):
    """Let `file_users` kill its forks; what it said."""
    command = [sys.executable, "-W", "ignore", str(HERE / "file_users.py"), str(folder), *jobs]
    found = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
    return found.stdout.splitlines()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_writer_killed_at_some_steps_leaves_a_whole_file_and_the_next_clears_up(folder):
    users = ":progress:results:checkpoint"
    said = kill(folder, f"SIGKILL:31{users}", f"SIGTERM:101{users}", f"SIGINT:37{users}")
    assert len(said) == 9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
@pytest.mark.skipif(not hasattr(signal, "SIGKILL") or not hasattr(os, "fork"), reason="no fork here")
def test_a_writer_killed_at_every_step_leaves_a_whole_file_and_the_next_clears_up(name, folder):
    said = kill(folder, f"{name}:1")
    assert len(said) == len(USERS)
    assert all(int(line.split()[-2]) > 60 for line in said)
