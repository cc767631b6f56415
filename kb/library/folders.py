"""What stands in folders now: one look at each entry, nothing read."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from kb.card import Problem

SETTINGS = "_library.yaml"

# Modification time (ns), size, and change time (ns), which alone tells that a file became readable.
Stamp = tuple[int, int, int]


@dataclass
class Found:
    """What one pass over the folders saw, paths as strings because there may be very many."""

    cards: dict[str, Stamp] = field(default_factory=dict)
    settings: dict[str, Stamp] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def scan(folders: Iterable[Path]) -> Found:
    """What stands in the folders now: one look at each entry, nothing read."""
    found = Found()
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        _scan_folder(str(folder), found, seen)
    return found


def _scan_folder(folder: str, found: Found, seen: set[tuple[int, int]]) -> None:
    try:
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # named twice, or a link that leads back up
            return
        seen.add((status.st_dev, status.st_ino))
        # Names sort faster than the entries of os.scandir, and a state tells of itself whether it is a folder's.
        names = sorted(os.listdir(folder))
    except OSError as error:
        found.problems.append(unreadable(folder, error))
        return
    above = os.path.join(folder, "")
    for name in names:
        if name.startswith(("_", ".")) and name != SETTINGS:
            continue
        path = f"{above}{name}"
        try:
            if not name.endswith((".yaml", ".yml")):
                if os.path.isdir(path):
                    _scan_folder(path, found, seen)
            elif S_ISREG((status := os.stat(path)).st_mode):
                (found.settings if name == SETTINGS else found.cards)[path] = stamp(status)
            elif S_ISDIR(status.st_mode):
                _scan_folder(path, found, seen)
            else:  # reading it might never end
                message = "this is neither a file nor a folder, but a pipe, a socket or a device."
                found.problems.append(Problem(message, "move it elsewhere.", file=path))
        except OSError as error:
            found.problems.append(unreadable(path, error))


def stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ctime_ns


def unreadable(path: str, error: OSError) -> Problem:
    return Problem(
        f"this cannot be read: {(error.strerror or 'unknown error').lower()}.",
        "put it back, or give yourself the right to read it.",
        file=path,
    )
