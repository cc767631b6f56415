"""A running app and a browser for the tests of this folder."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# Streamlit probes for its base path when a page is opened by its address; these two are its own.
PROBES = ("/_stcore/health", "/_stcore/host-config")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """The app on its own library as a reader starts it, `kb serve`; or another Streamlit script.

    It writes into a file: a pipe that nobody reads would hold it up once it is full.
    """

    def __init__(self, log, notes=None, script=None, measure=False):
        self.log = log
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        if script:
            command = ["-m", "streamlit", "run", str(script), "--server.port", str(self.port), "--server.headless=true"]
        else:
            command = ["-m", "kb.cli", "serve", "--port", str(self.port), *(["--notes", str(notes)] if notes else [])]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**os.environ, "KB_MEASURE": str(int(measure))},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait(self, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2):
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        raise AssertionError(f"the app did not start: {self.log.read_text()}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        finally:
            self.process.kill()


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Starts a server, `start(notes=...)` or `start(script=...)`; every one is stopped in the end."""
    logs = tmp_path_factory.mktemp("servers")
    with ExitStack() as running:

        def started(**what):
            server = Server(logs / f"{len(list(logs.iterdir()))}.log", **what)
            running.callback(server.stop)
            server.wait()
            return server

        yield started


@pytest.fixture(scope="session")
def server(start):
    return start()


@pytest.fixture(scope="session")
def chromium():
    if not Path(CHROMIUM).exists():
        pytest.fail("Browser tests need Chromium: apt-get install chromium fonts-noto-cjk fonts-noto-color-emoji")
    from playwright.sync_api import expect, sync_playwright

    # Two cores may be busy with the rest of the suite.
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A fresh page that collects what went wrong in `page.trouble`: console errors, exceptions, foreign requests."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.trouble = []

    def failed(response):
        if response.status >= 400 and not response.url.endswith(PROBES):
            page.trouble.append(f"{response.status} {response.url}")

    def said(message):
        if message.type == "error" and "404" not in message.text:
            page.trouble.append(message.text)

    def asked(request):
        if not request.url.startswith(("http://localhost:", "ws://localhost:", "data:", "blob:")):
            page.trouble.append(f"request to another host: {request.url}")

    page.on("response", failed)
    page.on("console", said)
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("request", asked)
    yield page
    context.close()
