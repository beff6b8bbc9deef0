"""A JupyterLab on loopback with a temporary home and a copy of the course, and Debian's Chromium before it."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent.parent
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip
NOWHERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
DEAD_PROXY = "http://127.0.0.1:9"
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "tests", "MNIST", "my_course")
RUN_LIMIT = 600  # seconds for a whole notebook


class ByNotebook(LoadScopeScheduling):
    """Gives all tests of a notebook to one process, so that it runs once; and all of the site."""

    def _split_scope(self, nodeid):
        file, _, test = nodeid.partition("::")
        return test.partition("[")[2] if file.endswith("test_in_browser.py") else file


def pytest_xdist_make_scheduler(config, log):
    return ByNotebook(config, log)


class Lab:
    """Where the running JupyterLab is, and its copy of the course."""

    def __init__(self, course, home):
        self.course, self.home, self.token = course, home, secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def environment(self):
        """The learner's, but with nothing of this user's settings, no screen, and no way out to the network."""
        mine = ("JUPYTER", "XDG_", "IPYTHON", "KDCOURSE", "MPL", "PYTEST", "COV_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
            kept.pop(name, None)
        proxies = {name: DEAD_PROXY for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy",)}
        proxies |= {name.upper(): value for name, value in proxies.items()}
        return kept | proxies | {
            "HOME": str(self.home), "PYTHONPATH": str(self.course), "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost", "OMP_NUM_THREADS": "1",
            "KDCOURSE_PROGRESS": str(self.home / "progress.json"),
        }  # fmt: skip

    def command(self):
        return [sys.executable, "-m", "kdcourse", "lab", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}",
                "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}"]  # fmt: skip

    def request(self, path, method="GET"):
        """An answer of the server's own interface."""
        asked = urllib.request.Request(self.url + path, method=method, headers={"Authorization": f"token {self.token}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(asked, timeout=10) as answer:
            return json.loads(answer.read() or "null")

    def end_kernels(self):
        for kernel in self.request("/api/kernels"):
            self.request(f"/api/kernels/{kernel['id']}", "DELETE")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab, started as `make lab` starts it."""
    if shutil.which("chromium") is None:
        pytest.skip("Debian's Chromium is not installed (apt install chromium)")
    running = Lab(tmp_path_factory.mktemp("checkout") / "course", tmp_path_factory.mktemp("home"))
    shutil.copytree(ROOT, running.course, ignore=LEFT_OUT)
    # all cells stay in the page, also those scrolled out of sight
    tracker = running.home / ".jupyter/lab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text('{"windowingMode": "none"}')
    with (running.home / "lab.log").open("w+") as log:
        process = subprocess.Popen(
            running.command(), env=running.environment(), cwd=running.course, stdout=log, stderr=log
        )
        try:
            wait_for_server(running, process, log)
            yield running
            running.end_kernels()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def wait_for_server(running, process, log):
    for _ in range(120):
        try:
            return running.request("/api/status")
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.5)
    log.seek(0)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read()}")


@pytest.fixture(scope="session")
def browser():
    """Chromium, unable to find any machine but this one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Debian's Chromium is not installed (apt install chromium)")
    with playwright.sync_playwright() as player:
        started = player.chromium.launch(executable_path=program, args=[*FLAGS, NOWHERE])
        yield started
        started.close()


class Opened:
    """A notebook in the browser, and what the page asked for and complained of."""

    def __init__(self, page, path, lab):
        self.page, self.path, self.lab = page, path, lab
        self.asked, self.uncaught, self.seconds = [], [], 0.0
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))
        page.on("pageerror", lambda error: self.uncaught.append(str(error)))

    def open(self):
        where = f"/lab/workspaces/{self.path.stem}/tree/my_course/{self.path.name}"
        self.page.goto(f"{self.lab.url}{where}?token={self.lab.token}")
        self.page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=60_000)
        self.wait_until_idle(60)

    def wait_until_idle(self, seconds):
        self.page.wait_for_function(
            "() => document.querySelector('#jp-main-statusbar')?.innerText.includes('Idle')", timeout=1000 * seconds
        )

    def menu(self, name, item):
        self.page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{name}$")).click()
        self.page.locator(".lm-Menu-item", has_text=re.compile(f"^{item}")).first.click()

    def run(self):
        """Throw the stored outputs away and run all cells."""
        began = time.monotonic()
        self.menu("Edit", "Clear Outputs of All Cells")
        self.page.wait_for_function("() => !document.querySelector('.jp-Notebook .jp-OutputArea-output')")
        self.menu("Run", "Run All Cells")
        # a cell that raises leaves those behind it unnumbered
        self.page.wait_for_function(
            """() => [...document.querySelectorAll('[data-mime-type="application/vnd.jupyter.stderr"]')]
                .some(output => output.innerText.includes('Traceback')) ||
            [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')]
                .every(prompt => /\\[\\d+\\]/.test(prompt.innerText))""",
            timeout=1000 * RUN_LIMIT,
            polling=500,
        )
        self.wait_until_idle(60)
        self.seconds = time.monotonic() - began

    def cell(self, text):
        """The code cell whose source contains ``text``."""
        return self.page.locator(".jp-Notebook .jp-CodeCell", has=self.page.locator(".cm-content", has_text=text)).first


@pytest.fixture(scope="session")
def ran(request, lab, browser):
    """The notebook whose path is the parameter, run from top to bottom."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    opened = Opened(page, request.param, lab)
    opened.open()
    opened.run()
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{request.param.stem}: {opened.seconds:.0f} s")
    yield opened
    page.close()
    lab.end_kernels()
