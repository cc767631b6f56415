"""A library that follows its folders."""

import logging
import threading
import time
from typing import Self

from kb.library.snapshot import Library

WITHIN = 1.8  # seconds, in which an edit is to be seen; the rest of two is left for what else the machine does


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
        took, failed = 0.0, False
        while not self._closing.wait(pause(took)):
            start = time.perf_counter()
            try:
                self.snapshot = self.snapshot.reload()
                failed = False
            except Exception:
                if not failed:  # said once, not at every look
                    logging.getLogger(__name__).exception("The library cannot be read again; the last one stays.")
                failed = True
            took = time.perf_counter() - start


def pause(took: float) -> float:
    """Seconds to rest after a look that took so many.

    A quarter of the time goes into looking; up to half of it where an edit that one look just missed would else be seen
    too late by the next.
    """
    return max(0.3, took, min(3 * took, WITHIN - 2 * took))
