"""What was never measured on this machine is measured beside the app, by a process that steps aside for all others."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable

LOWEST_PRIORITY = 19

_going_on = False


def going_on() -> bool:
    """Whether claims are being measured, or will be in a moment."""
    return _going_on


async def measure(after: Awaitable[object]) -> None:
    """Measures the claims that have no record, unless `$KB_MEASURE` is 0; what was measured stays when cancelled."""
    global _going_on
    _going_on = os.environ.get("KB_MEASURE") != "0"
    try:
        await after
        if _going_on:
            await _verify_unmeasured()
    finally:
        _going_on = False


async def _verify_unmeasured() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kb.cli", "verify", "--unmeasured"),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)
    try:
        await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
