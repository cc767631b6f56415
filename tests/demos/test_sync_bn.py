import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from demos import sync_bn as demo


def _shards(*counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [3 + 2 * torch.randn(count, dtype=torch.float64, generator=generator) for count in counts]


@pytest.mark.parametrize("counts", [(5,), (1, 1), (2, 30, 7)])
def test_both_ways_to_merge_agree_with_numpy(counts):
    shards = _shards(*counts)
    whole = np.concatenate([x.numpy() for x in shards])
    truth = torch.tensor([len(whole), whole.mean(), whole.var()], dtype=torch.float64)
    torch.testing.assert_close(demo.merge_moments(torch.stack([demo.moments(x) for x in shards])), truth)
    torch.testing.assert_close(demo.merge_sums(torch.stack([demo.sums(x) for x in shards])), truth)


def test_merging_in_any_grouping_gives_the_same():
    first, second, third = (demo.moments(x) for x in _shards(4, 9, 2))
    left = demo.merge_moments(torch.stack([demo.merge_moments(torch.stack([first, second])), third]))
    torch.testing.assert_close(left, demo.merge_moments(torch.stack([first, second, third])))


def test_a_batch_of_moments_is_merged_row_by_row():
    parts = torch.stack([demo.moments(torch.stack(_shards(6, 6, seed=seed))) for seed in range(3)])
    for merged, part in zip(demo.merge_moments(parts), parts, strict=True):
        torch.testing.assert_close(merged, demo.merge_moments(part))


def test_unequal_shares_take_turns():
    drawn = demo.draw(demo.Params(share=2, unequal=True), 5, 1, torch.Generator().manual_seed(0))
    assert [x.shape[1] for x in drawn] == [2, 4, 6, 2, 4]


def test_two_real_processes_agree_and_are_gone_within_the_time_allowed():
    start = time.perf_counter()
    outcome = demo.two_real_processes_agree.run(None)
    assert outcome.holds, outcome
    assert time.perf_counter() - start < demo.PATIENCE + 2


def test_workers_that_never_answer_are_ended_and_reported(monkeypatch):
    started = []
    popen = subprocess.Popen

    def sleeper(command, **options):
        started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        return started[-1]

    monkeypatch.setattr(demo, "PATIENCE", 0.2)
    monkeypatch.setattr(demo.subprocess, "Popen", sleeper)
    with pytest.raises(RuntimeError, match="did not finish"):
        demo.two_processes([(torch.zeros(2), torch.zeros(2))] * 2)
    assert [process.poll() is not None for process in started] == [True, True]


def test_a_worker_that_fails_is_reported_with_its_message_while_its_partner_still_waits(monkeypatch):
    popen, codes = subprocess.Popen, iter(["raise ValueError('no such port')", "import time; time.sleep(60)"])

    def failing(command, **options):
        return popen([sys.executable, "-c", next(codes)], **options)

    monkeypatch.setattr(demo.subprocess, "Popen", failing)
    with pytest.raises(RuntimeError, match="no such port"):
        demo.two_processes([(torch.zeros(2), torch.zeros(2))] * 2)


def test_a_law_notices_every_mistake(laws_notice):
    merge_moments = demo.merge_moments
    backward = demo.backward
    laws_notice(
        {
            "an unweighted mean": (
                {"merge_moments": lambda parts: merge_moments(torch.cat([1 + 0 * parts[:, :1], parts[:, 1:]], 1))},
                ["merged_moments_are_the_whole_batch"],
                {"unequal": True, "apart": 1.0},
            ),
            "a sum of squares that is not squared": (
                {"sums": lambda x: torch.stack([torch.tensor(float(len(x))), x.sum(), x.abs().sum()])},
                ["exchanged_sums_are_the_whole_batch"],
                {"unequal": True, "apart": 1.0},
            ),
            "an unweighted average of variances": (
                {"average_variances": lambda parts: parts[:, 2].mean()},
                ["what_averaging_leaves_out"],
                {"unequal": True, "apart": 1.0},
            ),
            "a backward pass without its exchange": (
                {"backward": lambda g, y, statistics, _: backward(g, y, statistics, demo.gradient_sums(g, y))},
                ["passes_are_those_of_the_whole_batch"],
                {"unequal": True, "apart": 1.0},
            ),
        }
    )
