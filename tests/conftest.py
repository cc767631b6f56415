"""What all tests share: a cache folder of their own, and statistical honesty about threads."""

import os
import tempfile
from pathlib import Path

import pytest

# Set before kb or torch is imported by any test: nobody's own cache is read or written.
os.environ["KB_CACHE"] = tempfile.mkdtemp(prefix="kb-cache-")
os.environ.pop("KB_NOTES", None)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for one test alone: for what it spoils, measures under a patch, or wants to find unmeasured."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("KB_CACHE", str(folder))
    return folder
