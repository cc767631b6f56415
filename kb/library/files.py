"""Card files and settings from disk: their text, or a problem that says why there is none."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from kb.card import TOPICS, Problem, Reading, read, read_topics
from kb.library.folders import Stamp, unreadable

MAX_BYTES = 1 << 20
_CLOCK_TICK_NS = 20_000_000  # no file system that we run on counts time more coarsely than its kernel's tick


def read_card(path: str, stamp: Stamp, topics: Mapping[str, str]) -> Reading:
    """A card file as it is now; its problems name it by `path`."""
    # A file that changed in this very tick could change again under the same stamp: read it in the next.
    if 0 <= (age := time.time_ns() - stamp[0]) < _CLOCK_TICK_NS:
        time.sleep((_CLOCK_TICK_NS - age) / 1e9)
    text = _text(path)
    if isinstance(text, Problem):
        return Reading(None, (text,))
    return read(text, slug=Path(path).stem, file=path, topics=topics)


def _text(path: str) -> str | Problem:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return unreadable(path, error)
    if len(data) > MAX_BYTES:
        return Problem(f"the file has more than {MAX_BYTES:,} bytes.", "split it.", file=path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8").split("\n")
        return Problem(
            f"the byte 0x{data[error.start]:02X} here is not UTF-8.",
            "save the file in UTF-8.",
            file=path,
            line=len(before),
            column=len(before[-1]) + 1,
        )


def read_settings(path: str) -> tuple[Mapping[str, str], tuple[Problem, ...]]:
    """The topics that a `_library.yaml` gives its folder, and what is wrong with it."""
    text = _text(path)
    if isinstance(text, Problem):
        return TOPICS, (text,)
    topics, problems = read_topics(text, file=path)
    return topics or TOPICS, problems


def shown(path: str) -> str:
    """A path as a person names it: from the current folder where it lies below."""
    return path.removeprefix(f"{Path.cwd()}{os.sep}")
