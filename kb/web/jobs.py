"""Results of demos: cached by source and parameters, and trained in the background frame by frame.

A training runs in a thread that keeps its latest frame; the page draws that frame a few times a second. A job ends when
another replaces it, when nobody has looked at it for a while (its reader left), or when it is done.
"""

import atexit
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from demos import kit

KEPT = 32
AT_ONCE = 2
UNWATCHED = 3.0
GRACE = 5.0

Key = tuple[Any, ...]


@dataclass(eq=False)
class Job:
    """One training: its latest frame, how it ended, and who still looks."""

    demo: kit.Demo
    params: kit.Knobs
    frame: Any = None
    frames: int = 0
    done: bool = False
    error: str = ""
    stopped: bool = False
    watched: float = field(default_factory=time.monotonic)
    first: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Ends the training at its next frame."""
        self.stopped = True

    def _abandoned(self) -> bool:
        """Whether it is to end: it was stopped, or nobody has looked for a while, which stops it for good."""
        self.stopped = self.stopped or time.monotonic() - self.watched > UNWATCHED
        return self.stopped

    def run(self, slots: threading.Semaphore) -> None:
        """Trains until done, stopped or abandoned; waits for a free slot first."""
        while not slots.acquire(timeout=0.2):
            if self._abandoned():
                return
        try:
            for frame in self.demo.frames(self.params):
                self.frame, self.frames = frame, self.frames + 1
                self.first.set()
                if self._abandoned():
                    return
            self.done = True
        except Exception as problem:  # shown on the page beside the last good frame
            logging.getLogger(__name__).exception("The training of %s failed.", self.demo.slug)
            self.error = f"{type(problem).__name__}: {problem}"
        finally:
            slots.release()
            self.first.set()


class Results:
    """Finished results by demo source and parameters, and the trainings under way; safe to share between sessions."""

    def __init__(self) -> None:
        self._finished: OrderedDict[Key, Any] = OrderedDict()
        self._slots = threading.Semaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._running: dict[Job, threading.Thread] = {}
        # A thread that is inside torch while the interpreter goes down takes the whole process with it.
        atexit.register(self.close)

    def key(self, demo: kit.Demo, params: kit.Knobs) -> Key:
        """What a result depends on; an edited source makes another key."""
        return (demo.slug, demo.digest, params.run_key())

    def get(self, demo: kit.Demo, params: kit.Knobs) -> Any | None:
        """A finished result, if it is still kept."""
        with self._lock:
            key = self.key(demo, params)
            if key in self._finished:
                self._finished.move_to_end(key)
            return self._finished.get(key)

    def keep(self, demo: kit.Demo, params: kit.Knobs, result: Any) -> None:
        """Remembers a finished result; the least used goes when there are too many."""
        with self._lock:
            self._finished[self.key(demo, params)] = result
            while len(self._finished) > KEPT:
                self._finished.popitem(last=False)

    def live(self, demo: kit.Demo, params: kit.Knobs) -> Any:
        """The result of a live demo, now."""
        result = self.get(demo, params)
        if result is None:
            result = demo.result(params)
            self.keep(demo, params, result)
        return result

    def train(self, demo: kit.Demo, params: kit.Knobs, *, before: Job | None) -> Job:
        """The job for these parameters: the one under way, one already done, or a new one in place of `before`."""
        if before is not None and not before.stopped and self.key(before.demo, before.params) == self.key(demo, params):
            before.watched = time.monotonic()
            if before.done:
                self.keep(demo, params, before.frame)
            return before
        if before is not None:
            before.stop()
        job = Job(demo, params)
        result = self.get(demo, params)
        if result is not None:
            job.frame, job.done = result, True
            job.first.set()
        else:
            thread = threading.Thread(target=job.run, args=(self._slots,), daemon=True, name=f"train-{demo.slug}")
            with self._lock:
                alive = {job: running for job, running in self._running.items() if running.is_alive()}
                self._running = alive | {job: thread}
                thread.start()
        return job

    def close(self) -> None:
        """Ends every training, each at its next frame, and waits for all of them together."""
        deadline = time.monotonic() + GRACE
        with self._lock:
            running = self._running
        for job in running:
            job.stop()
        for thread in running.values():
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
