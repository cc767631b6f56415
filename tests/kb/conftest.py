"""What tests of the index and of those who ask it share: another writer."""

from contextlib import contextmanager

import pytest
import tantivy

from kb.search import index, prepare


@pytest.fixture
def another_writes(cache, monkeypatch):
    """A block in which another process is writing the index, as it stands for `library`."""

    @contextmanager
    def writing(library):
        prepare(library)
        (place,) = cache.glob("search/*/*")
        monkeypatch.setattr(index, "PATIENCE", 0.1)
        writer = tantivy.Index.open(str(place)).writer(15_000_000, 1)
        yield
        del writer  # and with it the lock

    return writing
