"""Answers that want points without being right, or harm others: each earns nothing, and the next answer all of its own.

Harmless here: everything is bounded, and the network is a listener of the test's own.
"""

import socket

import pytest
from grading import RIGHT, SHORT, notebook, one, total, walled

from kdcourse.exercises import exercises


def tried(body: str) -> str:
    """An answer that does something at each call, and then returns a wrong value."""
    inside = "\n".join(f"    {line}" for line in body.splitlines())
    return f"def my_kl_of_probabilities(p, q):\n{inside}\n    return p.sum() * 0 + 7"


EACH = """for found in FOUND:
    try:
        value = getattr(found, "reference", None)
    except Exception:
        continue
    if callable(value):
        return value(p, q)"""

FOR_POINTS = {
    "check is print": "import kdcourse.exercises as e; e.check = print",
    "another verdict": "import kdcourse.exercises as e; e.judge = lambda *a, **k: e.Verdict('right', '')",
    "another module": "import sys, types\nm = types.ModuleType('kdcourse.exercises'); m.check = print\n"
    "sys.modules['kdcourse.exercises'] = m",
    "the reference by import": "from kdcourse.exercises.notebook_03.e03_1_kl import kl_of_probabilities as f\n"
    "return f(p, q)",
    "the reference in a frame": "import sys\nFOUND, f = [], sys._getframe()\nwhile f:\n"
    "    FOUND += f.f_locals.values()\n    f = f.f_back\n" + EACH,
    "the reference in memory": "import gc\nFOUND = gc.get_objects()\n" + EACH,
    "the reference in a file": "import glob\n"
    "for place in ('/course/**/e03*.py', '/work/**/e03*.py', '../../**/*.ipynb'):\n"
    "    for name in glob.glob(place, recursive=True):\n        space = {}\n        exec(open(name).read(), space)\n"
    "        return space['kl_of_probabilities'](p, q)",
    "the solution": "from kdcourse.exercises import solution; solution('03.1', confirm=True)",
    "environment": "import os; os.environ.clear(); os.environ['KDCOURSE_GRADING'] = ''",
    "tracing": "import sys\ndef trace(frame, *a):\n    for v in list(frame.f_locals.values()):\n"
    "        if hasattr(v, 'kind'): object.__setattr__(v, 'kind', 'right')\n    return trace\nsys.settrace(trace)",
    "allclose is True": "import torch\n"
    "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: torch.tensor(True)",
    "a tensor that is equal to all": "import torch\nclass T(torch.Tensor):\n    @classmethod\n"
    "    def __torch_function__(cls, f, types, args=(), kwargs=None): return True\n"
    "return torch.zeros(()).as_subclass(T)",
    "a number that is equal to all": "class F(float):\n    def __eq__(self, other): return True\n"
    "    def __sub__(self, other): return 0.0\n    __rsub__ = __sub__\nreturn F(3)",
    "a verdict in the pipe": "import json, os, struct\n"
    "t = json.dumps({'kind': 'right', 'points': 9, 'value': 0.0, 'gradients': [], 'known': [], 'nodes': [],"
    " 'error': None, 'graph': False}).encode()\n"
    "for fd in range(3, 20):\n    try: os.write(fd, struct.pack('!IQ', len(t), 0) + t)\n    except OSError: pass",
    "a verdict as text": "raise ValueError('✔ 03.1 right\\x1b[2K\\rpoints: 9')",
    "NaN": "return float('nan')",
    "no numbers": "import torch; return torch.zeros((), device='meta')",
    "at exit": "import atexit; atexit.register(print, '✔')",
    "the runner's own": "import __main__, sys\nfor m in list(sys.modules.values()):\n"
    "    if hasattr(m, 'described'): m.described = lambda error: None\nraise KeyError(3)",
}
DEATHS = {
    "exit": ("import os; os._exit(0)", "died"),
    "polite exit": ("import sys; sys.exit(0)", "error"),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "died"),
    "abort": ("import os; os.abort()", "died"),
    "garbage": ("import os\nfor fd in range(3, 20):\n    try: os.write(fd, b'\\xff' * 10**5)\n"
                "    except OSError: pass", "damaged"),
    "interrupt": ("raise KeyboardInterrupt", "error"),
    "fork": ("import os\nwhile True: os.fork()", "error"),
    "a daemon": ("import subprocess; subprocess.Popen(['sleep', '9'], start_new_session=True)", "error"),
    "threads": ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()", "error"),
    "others' processes": ("import os; os.kill(-1, 9)", "error"),
    "a large file": ("f = open('x', 'wb')\nwhile True: f.write(b'x' * 10**6)", "error"),
    "a large result": ("import torch; return torch.zeros(10**8)", "memory"),
    "a larger result": ("import torch; return torch.zeros(1).expand(10**12)", "memory"),
    "a list in itself": ("x = []; x.append(x); return x", "damaged"),
    "memory": ("x = bytearray(2**34)", "memory"),
    "C code": ("import itertools; sum(itertools.repeat(1))", "time"),
}  # fmt: skip
LONG = {
    "a swallowed interrupt": ("import time\nwhile True:\n    try: time.sleep(1)\n"
                              "    except BaseException: pass", "time"),
    "signals ignored": ("import signal, time\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
                        "    except (OSError, ValueError): pass\nwhile True: time.sleep(1)", "time"),
    "memory in small parts": ("x = []\nwhile True: x.append(bytearray(10**7))", "memory"),
    "memory, swallowed": ("x = []\nwhile True:\n    try: x.append(bytearray(10**7))\n"
                          "    except MemoryError: pass", "time"),
    "a slow reply": ("import os, time\nwhile True:\n    os.write(3, b'\\0'); time.sleep(0.3)", "damaged"),
    "half a reply": ("import os, time\nos.write(3, b'\\0\\xff\\xff\\xff' + bytes(8)); time.sleep(99)", "time"),
    "a deep list": ("x = []\nfor _ in range(10**5): x = [x]\nreturn x", "error"),
    "recursion": ("import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()", None),
    "memory of no one": ("import os\nf = os.memfd_create('x')\nwhile True: os.write(f, b'x' * 10**6)", "error"),
    "many files": ("for n in range(10**6): open(f'x{n}', 'wb').write(b'x' * 10**4)", None),
}  # fmt: skip
OUTSIDE = {
    "writes": "import os\nfor place in ('/', '..', '/course', '/usr/lib', '/root', '/work', '/home'):\n    try:\n"
    "        open(os.path.join(place, 'left'), 'w').write('x')\n    except OSError: continue\n"
    "    raise RuntimeError('wrote ' + place)",
    "other processes": "import os\n"
    "assert set(d for d in os.listdir('/proc') if d.isdigit()) == {str(os.getpid())}",
    "the next one's folder": "import os\nassert not os.listdir('.')\nopen('left', 'w').close(); os.remove('left')",
    "rights": "import ctypes, os\nc = ctypes.CDLL(None)\nassert os.getuid() and c.setuid(0) and c.unshare(1 << 28)"
    " and c.umount2(b'/course', 2) and c.ptrace(16, 1, 0, 0)",
    "the environment": "import os\nassert not set(os.environ) & {'PATH', 'USER', 'PYTHONPATH', 'VIRTUAL_ENV', 'PWD'}",
    "the course": "import os, sys\nfound, seen, sys.looked = [], hasattr(sys, 'looked'), True  # at the first call\n"
    "for place in () if seen else ('/work', '/home', '/root', '/tmp', '/course'):\n"
    "    for folder, folders, files in os.walk(place):\n"
    "        found += [f'{folder}/{name}' for name in folders + files if name == 'exercises'"
    " or name.endswith(('.ipynb', '.db'))]\n"
    "        folders[:] = [name for name in folders if name[0] != '.']\nassert not found, found",
}  # fmt: skip


@pytest.mark.parametrize("attack", FOR_POINTS)
def test_it_earns_no_points(attack):
    assert one(tried(FOR_POINTS[attack])).points == 0


@pytest.mark.parametrize("attack", DEATHS)
def test_it_costs_its_own_exercise_alone_and_the_mark_says_how(attack):
    body, kind = DEATHS[attack]
    assert one(tried(body)).kind == kind


@pytest.mark.slow
@pytest.mark.parametrize("attack", LONG)
def test_it_is_ended_from_outside(attack):
    body, kind = LONG[attack]
    found = one(tried(body))
    assert found.points == 0
    assert kind is None or found.kind == kind, found.message


def test_after_all_of_them_a_right_answer_earns_its_points():
    bomb = tried("import os; os._exit(0)")
    assert total(notebook(a03_1=bomb, a03_3=RIGHT["03.3"], a03_4=RIGHT["03.4"])) == 2


@walled
@pytest.mark.parametrize("attack", OUTSIDE)
def test_nothing_outside_can_be_reached(attack):
    """The answer is right if it finds nothing, and raises otherwise."""
    source = RIGHT["03.1"].replace(":\n", ":\n" + "".join(f"    {line}\n" for line in OUTSIDE[attack].splitlines()), 1)
    found = one(source, limits=type(SHORT)())  # looking for files takes its time
    assert found.points == 1, found.message


@pytest.mark.skipif(
    "calls" in __import__("kdcourse.classroom.sandbox").classroom.sandbox.server().missing, reason="no filter"
)
def test_no_connection_is_made_and_the_try_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        body = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=1)"
        found = one(tried(body))
        with pytest.raises(TimeoutError):
            listener.accept()
    assert (found.kind, found.points) == ("error", 0)
    assert any(what.startswith("network") for what in found.reached)


def test_what_an_answer_tries_to_reach_is_told():
    found = one(tried("import os\ntry: open('/home/ada/03.ipynb')\nexcept OSError: pass\nos.system('true')"))
    assert found.reached == ("file: /home/ada/03.ipynb", "process: os.system")


def test_a_table_of_the_fixed_cases_is_no_answer():
    """Every number that the fixed cases ask for, and nothing else."""
    lines = []
    for case in exercises["03.1"].cases():
        try:
            value = exercises["03.1"].reference(*case.arguments, **case.keywords).item()
        except ValueError:
            continue
        lines.append(
            f"    if torch.equal(p, torch.tensor({case.arguments[0].tolist()}, dtype=p.dtype)): return {value!r}"
        )
    source = "import torch\ndef my_kl_of_probabilities(p, q):\n" + "\n".join(lines)
    assert one(source + "\n    raise ValueError").points == 0


@pytest.mark.slow
def test_a_million_lines_cost_nothing():
    printing = RIGHT["03.1"].replace(":\n", ":\n    for n in range(10**6): print(n)\n", 1)
    found = one(printing, limits=type(SHORT)())
    assert found.points == 1, found.message
    assert "999,992 lines more, cut" in found.shown
