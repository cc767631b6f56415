import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated

import pytest

from demos import kit
from kb.web import jobs


@dataclass(frozen=True)
class Params(kit.Knobs):
    updates: Annotated[int, kit.Range(1, 10_000)] = 5
    shown: Annotated[int, kit.Range(1, 10, view=True)] = 1


class Training:
    """Stands in for a demo: counts up, slowly, and says how far it came."""

    slug, digest = "softmax_temperature", "as loaded"

    def __init__(self, pause=0.0, fail_at=None):
        self.pause, self.fail_at, self.reached, self.runs = pause, fail_at, 0, 0
        self.entry = SimpleNamespace(pace="training")

    def frames(self, params):
        self.runs += 1
        for update in range(1, params.updates + 1):
            if update == self.fail_at:
                raise ArithmeticError("the loss is NaN")
            time.sleep(self.pause)
            self.reached = update
            yield update

    def result(self, params):
        return list(self.frames(params))[-1]


def _until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_a_training_ends_with_its_last_frame_and_is_not_trained_twice():
    results, demo = jobs.Results(), Training()
    job = results.train(demo, Params(), before=None)
    _until(lambda: job.done)
    assert job.frame == 5
    results.train(demo, Params(), before=job)
    again = results.train(demo, Params(), before=None)
    assert again.done and again.frame == 5 and demo.runs == 1


def test_turning_a_view_knob_keeps_the_training():
    results, demo = jobs.Results(), Training(pause=0.02)
    job = results.train(demo, Params(updates=1000), before=None)
    assert results.train(demo, Params(updates=1000, shown=7), before=job) is job
    job.stop()


def test_turning_a_run_knob_stops_the_training_within_a_frame_and_starts_another():
    results, demo = jobs.Results(), Training(pause=0.02)
    job = results.train(demo, Params(updates=1000), before=None)
    _until(lambda: job.frames >= 2)
    other = results.train(demo, Params(updates=3), before=job)
    reached = job.frames
    _until(lambda: other.done)
    assert job.stopped and job.frames <= reached + 2


def test_a_training_that_nobody_watches_ends(monkeypatch):
    monkeypatch.setattr(jobs, "UNWATCHED", 0.1)
    demo = Training(pause=0.02)
    job = jobs.Results().train(demo, Params(updates=1000), before=None)
    _until(lambda: job.stopped)
    assert demo.reached < 100


def test_a_training_that_fails_keeps_its_last_frame_and_says_why_with_the_traceback_in_the_log(caplog):
    job = jobs.Results().train(Training(fail_at=4), Params(), before=None)
    _until(lambda: job.error)
    assert (job.frame, job.error, job.done) == (3, "ArithmeticError: the loss is NaN", False)
    assert "Traceback" in caplog.text and "the loss is NaN" in caplog.text


def test_only_so_many_train_at_once_and_the_next_gets_its_turn(monkeypatch):
    monkeypatch.setattr(jobs, "AT_ONCE", 1)
    results = jobs.Results()
    first = results.train(Training(pause=0.02), Params(updates=10), before=None)
    _until(lambda: first.frames >= 1)
    second = results.train(Training(), Params(updates=2), before=None)
    time.sleep(0.05)
    assert second.frames == 0
    _until(lambda: second.done)
    assert first.done


def test_a_training_abandoned_before_its_turn_is_begun_anew_when_its_reader_returns(monkeypatch):
    monkeypatch.setattr(jobs, "AT_ONCE", 1)
    results, demo = jobs.Results(), Training()
    first = results.train(Training(pause=0.02), Params(updates=1000), before=None)
    _until(lambda: first.frames >= 1)
    waiting = results.train(demo, Params(), before=None)
    waiting.watched -= 2 * jobs.UNWATCHED
    _until(lambda: waiting.stopped)
    again = results.train(demo, Params(), before=waiting)
    first.stop()
    _until(lambda: again.done)
    assert again.frame == 5


def test_closing_ends_every_training_even_those_that_began_at_once():
    results = jobs.Results()
    with ThreadPoolExecutor(16) as pool:
        begun = list(
            pool.map(lambda _: results.train(Training(pause=0.02), Params(updates=1000), before=None), range(64))
        )
    results.close()
    assert all(job.stopped for job in begun)


def test_closing_waits_for_all_trainings_together(monkeypatch):
    monkeypatch.setattr(jobs, "AT_ONCE", 4)
    monkeypatch.setattr(jobs, "GRACE", 0.5)
    results = jobs.Results()
    begun = [results.train(Training(pause=3.0), Params(), before=None) for _ in range(4)]
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 2 * jobs.GRACE
    assert all(job.stopped and not job.done for job in begun)


def test_the_least_used_result_goes_first(monkeypatch):
    monkeypatch.setattr(jobs, "KEPT", 2)
    results, demo = jobs.Results(), Training()
    for updates in (1, 2, 1, 3):
        results.live(demo, Params(updates=updates))
    assert demo.runs == 3
    assert results.get(demo, Params(updates=1)) == 1 and results.get(demo, Params(updates=2)) is None


def test_a_demo_that_was_edited_and_loaded_anew_is_run_again_while_the_old_one_keeps_its_result():
    results, old, edited = jobs.Results(), Training(), Training()
    edited.digest = "edited"
    for demo in (old, edited, old, edited):
        results.live(demo, Params())
    assert (old.runs, edited.runs) == (1, 1)


@pytest.mark.parametrize("updates", [1, 7])
def test_a_live_result_is_the_last_frame(updates):
    assert jobs.Results().live(Training(), Params(updates=updates)) == updates
