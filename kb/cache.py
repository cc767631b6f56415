"""Where derived things live: the search index, verification records. All of it may be deleted at any time."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$KB_CACHE`, else `$XDG_CACHE_HOME/kb`, else `~/.cache/kb`; not made here."""
    if chosen := os.environ.get("KB_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kb"
