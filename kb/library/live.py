"""A library that follows its folders."""

import logging
import threading
import time
from typing import Self

from kb.library.snapshot import Library


class LiveLibrary:
    """A library that follows its folders: `snapshot` is never older than about two seconds.

    A daemon thread looks for changes; `close` ends it. Threads may read `snapshot` at any time.
    """

    def __init__(self, library: Library) -> None:
        self.snapshot = library
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="library", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; the last snapshot stays."""
        self._closing.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> None:
        took = 0.0
        # A quarter of the time at most goes into looking, as far as the two seconds allow.
        while not self._closing.wait(min(max(0.3, 3 * took), 1.0)):
            start = time.perf_counter()
            try:
                self.snapshot = self.snapshot.reload()
            except Exception:
                logging.getLogger(__name__).exception("The library could not be read again; the last one stays.")
            took = time.perf_counter() - start
