"""Measures claims: those that a reader asks for, one at a time, and beside the app those that never were measured."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator

from demos import kit
from kb import verify

LOWEST_PRIORITY = 19
PATIENCE = 0.5  # seconds that a reader waits without being told for what

_log = logging.getLogger(__name__)
_turn = threading.Lock()
_going_on = False


def measured(
    checks: Iterable[str],
    say: Callable[[str], object],
    *,
    params: kit.Knobs | None = None,
    demo: kit.Demo | None = None,
) -> Iterator[verify.Record]:
    """Runs checks, each in its turn among those of all readers, so that many who ask do not take the whole machine.

    Remembers each record, but for those of laws that were tried at `params`. `say` is told of the waiting, again and
    again: there Streamlit ends the run of a reader who turned to another page.
    """
    for name in checks:
        while not _turn.acquire(timeout=PATIENCE):
            say("Waiting for what another reader measures …")
        try:
            record = verify.measure(name, params, demo=demo)
        finally:
            _turn.release()
        if params is None or record.kind != "law":
            verify.remember([record])
        yield record


def going_on() -> bool:
    """Whether claims are being measured beside the app, or will be in a moment."""
    return _going_on


async def measure_unmeasured(after: Awaitable[object]) -> None:
    """Measures the claims that have no record, unless `$KB_MEASURE` is 0; what was measured stays when cancelled.

    It is done by a process of its own that steps aside for all others.
    """
    global _going_on
    _going_on = os.environ.get("KB_MEASURE") != "0"
    try:
        await after
        if _going_on:
            await _verify_unmeasured()
    except Exception:
        _log.exception("What goes on beside the app failed: loading torch, or measuring claims.")
    finally:
        _going_on = False


async def _verify_unmeasured() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kb.cli", "verify", "--unmeasured"),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)
    try:
        status = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if status not in (0, 1):  # 1: some claim does not hold
        _log.error("Measuring the claims beside the app ended with status %d.", status)
