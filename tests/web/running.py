"""The app in a process of its own, and a browser to look at it: for tests, benchmarks and the pictures of docs/."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[2]
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


class Server(NamedTuple):
    """Where it listens, and its process."""

    url: str
    pid: int


@contextmanager
def serving(*, notes: Path | None = None, script: Path | None = None, measure: bool = False) -> Iterator[Server]:
    """The app on its own library or on `notes`, as a reader starts it, `kb serve`; or another Streamlit script."""
    port = str(_free_port())
    if script:
        command = ["streamlit", "run", str(script), "--server.headless=true", "--server.port", port]
    else:
        command = ["kb.cli", "serve", "--port", port, *(["--notes", str(notes)] if notes else [])]
    # A pipe that nobody reads would hold the server up once it is full.
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "KB_MEASURE": str(int(measure))},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://localhost:{port}"
            if not _answers(process, f"{url}/_stcore/health"):
                log.seek(0)
                raise RuntimeError(f"The app did not start: {log.read()}")
            yield Server(url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            finally:
                process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], address: str, seconds: float = 60) -> bool:
    """Whether a server answers within some seconds; it need not be waited for once its process has ended."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return True
        except OSError:
            time.sleep(0.1)
    return False


@contextmanager
def browsing() -> Iterator[Browser]:
    """Headless Chromium."""
    chromium = shutil.which("chromium")
    if not chromium:
        raise RuntimeError("Chromium is missing: apt-get install chromium fonts-noto-cjk fonts-noto-color-emoji")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()
