"""Where derived things live: what cards were read as, the search index, verification records.

All of it may be deleted at any time.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

_WEEK = 7 * 86_400  # seconds


def cache_folder() -> Path:
    """`$KB_CACHE`, else `$XDG_CACHE_HOME/kb`, else `~/.cache/kb`; not made here."""
    if chosen := os.environ.get("KB_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kb"


def derived_folder(kind: str, folders: Iterable[Path], sources: Iterable[Path], *versions: str) -> Path:
    """The folder, made here, for what is derived from the cards in `folders`.

    Whatever makes it, the code in `sources` and the `versions` of what that uses, has a folder of its own, so that
    nobody reads what another version wrote; the folders of others are deleted when they were not used for a week.
    Raises OSError where it cannot be written.
    """
    made_by = [*(path.read_bytes() for path in sources), *map(str.encode, versions)]
    folder = cache_folder() / kind / _digest(map(os.fsencode, folders)) / _digest(made_by)
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    for other in folder.parent.iterdir():
        if time.time() - other.stat().st_mtime > _WEEK:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.blake2b(b"\n".join(parts), digest_size=8).hexdigest()
