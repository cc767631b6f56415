from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from demos import kit
from kb import verify
from kb.library import Library
from kb.query import parse
from kb.search import search

NAME = "softmax_temperature.cold_is_arg_max"

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def library(tmp_path):
    claims = f"claims: [{{says: It cools., check: {NAME}}}]"
    (tmp_path / "heat.yaml").write_text(f"title: Heat\n{claims}\n", encoding="utf-8")
    (tmp_path / "cold.yaml").write_text(f"title: Cold\n{claims}\n", encoding="utf-8")
    return Library.open(tmp_path)


def test_a_check_that_two_cards_name_is_run_once(library):
    assert verify.claimed(library) == {NAME: ("cold", "heat")}
    assert verify.select(library) == [NAME]


def test_a_name_may_be_a_card_a_demo_or_a_check(library):
    every = [f"softmax_temperature.{check}" for check in kit.catalog()["softmax_temperature"].checks]
    assert verify.select(library, ["heat"]) == [NAME]
    assert verify.select(library, [NAME]) == [NAME]
    assert verify.select(library, ["softmax_temperature"]) == every
    assert verify.select(library, ["heat", "softmax_temperature"]) == [NAME, *(name for name in every if name != NAME)]


def test_what_was_measured_is_remembered():
    (record,) = verify.verify([NAME])
    assert record.holds and not record.failed
    assert verify.recorded() == {NAME: record}


def test_a_record_counts_only_while_its_demo_is_what_was_measured(toy):
    loaded, right = kit.load("toy"), toy.read_text(encoding="utf-8")
    list(verify.verify(["toy.floats"]))
    assert verify.recorded()["toy.floats"].holds
    toy.write_text(right.replace("abs(loss - level)", "-abs(loss - level)"), encoding="utf-8")
    assert verify.recorded() == {}
    verify.remember([verify.measure("toy.floats", demo=loaded)])
    assert verify.recorded() == {}
    list(verify.verify(["toy.floats"]))
    assert not verify.recorded()["toy.floats"].holds


def test_writers_that_remember_at_once_lose_nothing():
    record = verify.measure(NAME)
    kept = [replace(record, check=f"check_{i}") for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: verify.remember([one]), kept))
    assert sorted(verify.recorded()) == [f"softmax_temperature.check_{i}" for i in range(8)]


def test_a_spoiled_store_is_an_empty_one(cache):
    (cache / "records.db").write_text("This is no database, however long it may be. " * 100)
    assert verify.recorded() == {}
    list(verify.verify([NAME]))
    assert NAME in verify.recorded()


def test_a_cache_that_cannot_be_written_costs_only_the_memory(monkeypatch):
    monkeypatch.setenv("KB_CACHE", "/proc/nowhere")
    assert [record.holds for record in verify.verify([NAME])] == [True]


def test_a_check_that_is_not_there_fails_and_says_so():
    record = verify.measure("softmax_temperature.no_such_check")
    assert record.failed and "no check 'no_such_check'" in record.error


def test_the_problems_name_what_is_missing_and_what_is_nearest(tmp_path):
    (tmp_path / "heat.yaml").write_text("title: Heat\ndemos: [softmax_temperatur]\n", encoding="utf-8")
    (problem,) = verify.problems(Library.open(tmp_path))
    assert problem.message == "there is no demo softmax_temperatur." and problem.mend == "write softmax_temperature."


def test_the_problems_stand_where_the_missing_thing_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(
        "title: A\ndemos: [nowhere, softmax_temperature, ResNet]\nclaims:\n"
        f"  - {{says: It holds., check: {NAME}}}\n"
        "  - {says: It does not., check: softmax_temperature.cold_is_arg_min}\n",
        encoding="utf-8",
    )
    assert [str(problem).split(": error")[0] for problem in verify.problems(Library.open(tmp_path))] == [
        "a.yaml:2:9",
        "a.yaml:5:33",
    ]


def test_what_cards_claim_is_known_while_another_process_writes_the_index(library, tmp_path, another_writes):
    with another_writes(library):
        (tmp_path / "cold.yaml").unlink()
        (tmp_path / "new.yaml").write_text(f"title: New\ndemos: [nowhere]\nclaims: [{{says: So., check: {NAME}}}]\n")
        changed = library.reload()
        assert verify.claimed(changed) == {NAME: ("heat", "new")}
        assert [problem.message for problem in verify.problems(changed)] == ["there is no demo nowhere."]


def test_a_search_for_failing_claims_goes_by_what_was_measured(library):
    asked = parse("claim:holding")
    assert [hit.slug for hit in search(library, asked, verdicts=verify.verdicts(asked)).hits] == []
    list(verify.verify([NAME]))
    assert {hit.slug for hit in search(library, asked, verdicts=verify.verdicts(asked)).hits} == {"cold", "heat"}
    assert verify.verdicts(parse("softmax")) == {}
