import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from demos import kit
from kb import verify
from kb.web import measuring

LAW = "softmax_temperature.cold_is_arg_max"

pytestmark = pytest.mark.usefixtures("cache")


def _measured(name, say=lambda _: None):
    return next(measuring.measured([name], say))


def test_however_many_readers_ask_one_check_runs_at_a_time_and_those_who_wait_are_told(monkeypatch):
    monkeypatch.setattr(measuring, "PATIENCE", 0.01)
    running, most, told = [], [], []

    def slow(name, *_, **__):
        running.append(name)
        most.append(len(running))
        time.sleep(0.05)
        running.remove(name)
        return record

    record = verify.measure(LAW)
    monkeypatch.setattr(verify, "measure", slow)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda name: _measured(name, told.append), "abcd")) == [record] * 4
    assert most == [1] * 4
    assert set(told) == {"Waiting for what another reader measures …"}


def test_a_reader_who_leaves_while_waiting_is_not_in_the_way_of_others(monkeypatch):
    monkeypatch.setattr(measuring, "PATIENCE", 0.01)

    def leave(_):
        raise InterruptedError

    with measuring._turn, pytest.raises(InterruptedError):
        _measured(LAW, leave)
    assert _measured(LAW).holds


def test_what_a_law_measured_at_other_settings_than_the_defaults_is_not_remembered():
    demo = kit.load("softmax_temperature")
    list(measuring.measured([LAW], print, params=demo.params(temperature=2.0), demo=demo))
    assert verify.recorded() == {}
    list(measuring.measured([LAW], print))
    assert set(verify.recorded()) == {LAW}


@pytest.fixture
def measure_beside(monkeypatch):
    """Measures beside the app by a process that does nothing but end with a status."""

    def measure(*, status=0, after=None):
        begin = asyncio.create_subprocess_exec

        async def begun(program, *_, **settings):
            return await begin(program, "-c", f"raise SystemExit({status})", **settings)

        monkeypatch.setattr(asyncio, "create_subprocess_exec", begun)
        monkeypatch.setenv("KB_MEASURE", "1")
        with ThreadPoolExecutor(1) as thread:  # this one's event loop is Playwright's, once a browser test has run
            thread.submit(asyncio.run, measuring.measure_unmeasured(after or asyncio.sleep(0))).result()
        assert not measuring.going_on()

    return measure


@pytest.mark.parametrize("status", [2, 137])
def test_measuring_beside_the_app_that_breaks_off_is_in_the_log(measure_beside, caplog, status):
    measure_beside(status=status)
    assert f"ended with status {status}" in caplog.text


def test_claims_that_do_not_hold_are_no_trouble_of_the_app(measure_beside, caplog):
    measure_beside(status=1)
    assert not [record for record in caplog.records if record.name.startswith("kb")]


def test_torch_that_cannot_be_loaded_is_in_the_log_at_once(measure_beside, caplog):
    async def load():
        raise ImportError("there is no torch here")

    measure_beside(after=load())
    assert "there is no torch here" in caplog.text
