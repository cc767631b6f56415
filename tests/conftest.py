"""What all tests share: a cache folder that is nobody else's."""

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest

from demos import kit

# Set before kb or torch is imported by any test: nobody's own cache is read or written.
CACHE = tempfile.TemporaryDirectory(prefix="kb-cache-", ignore_cleanup_errors=True)
os.environ["KB_CACHE"] = CACHE.name
os.environ.pop("KB_NOTES", None)


def pytest_unconfigure() -> None:
    CACHE.cleanup()


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for one test alone: for what it spoils, measures under a patch, or wants to find unmeasured."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("KB_CACHE", str(folder))
    return folder


@pytest.fixture
def toy(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a small demo, there to be edited; while the test runs it is the only demo there is."""
    folder = tmp_path_factory.mktemp("demos")
    for name in ("catalog", "load", "digests"):
        monkeypatch.setattr(kit, name, partial(getattr(kit, name), folder=folder))
    return Path(shutil.copy(Path(__file__).with_name("demos") / "toy.py", folder))
