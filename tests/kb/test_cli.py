import json
import os
import socket
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from demos import kit
from kb.cache import cache_folder
from kb.cli import main

CARD = """\
title: Softmax with a temperature
aliases: [温度]
demos: [softmax_temperature]
claims:
  - {says: It cools., check: softmax_temperature.cold_is_arg_max}
Key: |
  Heat levels the bars.
"""


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "heat.yaml").write_text(CARD, encoding="utf-8")
    return tmp_path


def kb(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)


def test_check_says_that_a_clean_library_is_clean(notes):
    result = kb("--notes", notes, "check")
    assert (result.exit_code, result.output) == (0, "1 card, no problems.\n")


def test_a_folder_chosen_for_one_command_is_not_chosen_for_the_next(notes):
    assert kb("--notes", notes, "check").output.startswith("1 card")
    assert not kb("check").output.startswith("1 card")


def test_check_names_file_line_and_mend_and_fails(notes):
    (notes / "bad.yaml").write_text("title: A\nyear: soon\n", encoding="utf-8")
    result = kb("--notes", notes, "check")
    assert result.exit_code == 1
    assert "bad.yaml:2:7" in result.output and "Mend:" in result.output


def test_check_prints_json_for_machines(notes):
    (notes / "bad.yaml").write_text("title: A\nyear: soon\n", encoding="utf-8")
    problems = json.loads(kb("--notes", notes, "check", "--json").output)
    assert [(problem["line"], problem["field"]) for problem in problems] == [(2, "year")]


def test_check_names_demos_and_checks_that_are_not_there(notes):
    (notes / "heat.yaml").write_text(
        CARD.replace("arg_max", "arg_min").replace("[softmax", "[softmix"), encoding="utf-8"
    )
    output = kb("--notes", notes, "check").output
    assert "there is no demo softmix_temperature. Mend: write softmax_temperature." in output
    assert "there is no check of softmax_temperature named cold_is_arg_min. Mend: write cold_is_arg_max." in output


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    result = kb("--notes", tmp_path / "nowhere", "check")
    assert result.exit_code == 1 and "not there" in result.output and "Traceback" not in result.output


@pytest.mark.parametrize("query", ["softmax", "softmx", "温度", "temperat"])
def test_search_finds_in_both_languages_and_past_typos(notes, query):
    hits = json.loads(kb("--notes", notes, "search", query, "--json").output)
    assert [hit["slug"] for hit in hits] == ["heat"]
    assert hits[0]["title"] and hits[0]["score"] > 0 and hits[0]["why"]


@pytest.mark.parametrize(
    ("typed", "slugs"),
    [
        (["levels", "-softmax"], ["cold"]),
        (["levels", "-title:softmax", "--limit", "5"], ["cold"]),
        (["levels", "-heat"], []),
        (["heat levels", "bars"], ["heat"]),
        (["levels", "-heat levels"], ["cold"]),
        (["key:heat levels", "bars"], ["heat"]),
        (["heat levels"], ["cold", "heat"]),
        (["(softmax OR zebra)", "levels"], ["heat"]),
        (['key:"heat levels"', "bars"], ["heat"]),
    ],
)
def test_search_reads_exclusions_and_phrases_as_a_shell_hands_them_over(notes, typed, slugs):
    (notes / "cold.yaml").write_text("title: Cold\nKey: The bars are at levels of heat.\n", encoding="utf-8")
    hits = json.loads(kb("--notes", notes, "search", *typed, "--json").output)
    assert sorted(hit["slug"] for hit in hits) == slugs


def test_search_still_refuses_an_option_it_does_not_know_and_has_its_help():
    assert "No such option '--limt'" in kb("search", "softmax", "--limt", "5").output
    assert "Find cards" in kb("search", "-h").output


def test_search_for_a_typo_says_what_is_printed(notes):
    assert "No card has that as typed; these answer 'softmax'." in kb("--notes", notes, "search", "softmx").output


def test_search_that_finds_nothing_says_so(notes):
    result = kb("--notes", notes, "search", "zebra")
    assert result.exit_code == 0 and "Nothing answers that." in result.output


def test_show_prints_a_card_and_offers_the_nearest_for_a_typo(notes):
    assert "Heat levels the bars." in kb("--notes", notes, "show", "heat").output
    assert json.loads(kb("--notes", notes, "show", "heat", "--json").output)["title"] == "Softmax with a temperature"
    missing = kb("--notes", notes, "show", "heta")
    assert missing.exit_code == 1 and "Did you mean heat?" in missing.output


def test_demos_lists_them_with_their_summaries():
    assert "softmax_temperature" in kb("demos").output
    slugs = [entry["slug"] for entry in json.loads(kb("demos", "--json").output)]
    assert slugs == sorted(slugs)


def test_a_broken_demo_is_said_to_be_broken_wherever_demos_are_listed(monkeypatch):
    broken = kit.Entry("split", "split", "", "", "", "", "live", {}, error="SyntaxError: never closed")
    monkeypatch.setattr(kit, "catalog", lambda: {"split": broken})
    for command in ("demos", "run --help"):
        assert "broken: SyntaxError: never closed" in kb(*command.split()).output


def test_a_shell_completes_demos_without_loading_one_and_a_demos_options(monkeypatch):
    shell = ShellComplete(main, {}, "kb", "_KB_COMPLETE")
    options = shell.get_completions(["run", "softmax_temperature"], "--te")
    assert [option.value for option in options] == ["--temperature"]
    monkeypatch.setattr(kit, "load", None)
    assert [demo.value for demo in shell.get_completions(["run"], "softm")] == ["softmax_temperature"]


def test_run_prints_the_readings_of_the_given_parameters():
    output = kb("run", "softmax_temperature", "--logits", "1,1", "--temperature", "3").output
    assert "Largest probability: 0.5" in output


def test_run_refuses_a_bad_value_in_the_knobs_own_words():
    result = kb("run", "softmax_temperature", "--temperature", "hot")
    assert result.exit_code == 2 and "temperature: 'hot' is not a number from 0.05 to 50" in result.output


def test_run_offers_the_nearest_demo_for_a_typo():
    result = kb("run", "softmax_temperatur")
    assert result.exit_code == 1 and "Did you mean softmax_temperature?" in result.output


def test_run_lists_a_demos_parameters_in_its_help():
    output = kb("run", "softmax_temperature", "--help").output
    assert "--temperature" in output and "a number from 0.05 to 50" in " ".join(output.split())


def test_run_writes_data_and_figures(tmp_path):
    data, page = tmp_path / "out.json", tmp_path / "out.html"
    assert kb("run", "softmax_temperature", "--json", data, "--html", page).exit_code == 0
    assert json.loads(data.read_text())["demo"] == "softmax_temperature"
    assert "<h1>Softmax temperature</h1>" in page.read_text()
    assert json.loads(kb("run", "softmax_temperature", "--json", "-").output)["params"]["temperature"] == 4.0


def test_verify_measures_what_claims_name(notes):
    (record,) = json.loads(kb("--notes", notes, "verify", "--json").output)
    expected = {
        "demo",
        "check",
        "claim",
        "source",
        "kind",
        "measured",
        "reference",
        "relation",
        "tolerance",
        "why",
        "holds",
        "seconds",
    }
    assert expected <= set(record)
    assert record["holds"] and record["check"] == "cold_is_arg_max"


def test_what_a_difference_must_exceed_is_called_a_margin_and_not_a_tolerance():
    assert ", more than 0, margin 0.25 (" in kb("verify", "augmentation_families.color_keeps_the_edges").output


@pytest.mark.usefixtures("cache")
def test_verify_exits_with_1_when_a_law_fails(notes, monkeypatch):
    monkeypatch.setattr(kit.load("softmax_temperature").module, "softmax", lambda logits, temperature: logits)
    result = kb("--notes", notes, "verify")
    assert result.exit_code == 1 and "1 fail" in result.output


def test_verify_refuses_a_name_it_does_not_know(notes):
    result = kb("--notes", notes, "verify", "hete")
    assert result.exit_code == 1 and "Did you mean heat?" in result.output


@pytest.mark.parametrize(
    ("address", "host"), [("localhost", "localhost"), ("127.0.0.2", "127.0.0.2"), ("0.0.0.0", socket.gethostname())]
)
def test_serve_says_where_it_listens(notes, monkeypatch, address, host):
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(os, "chdir", lambda _: None)
    monkeypatch.setattr(os, "environ", {**os.environ})
    output = kb("--notes", notes, "serve", "--address", address, "--port", "8714").output
    assert f"Open http://{host}:8714 (" in output


@pytest.mark.parametrize(("name", "inside"), [("KB_CACHE", "."), ("XDG_CACHE_HOME", "kb")])
def test_serve_keeps_the_cache_that_other_commands_use_though_its_name_is_relative(
    notes, tmp_path, monkeypatch, name, inside
):
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(os, "environ", {**os.environ, "KB_CACHE": "", name: "here"})
    monkeypatch.chdir(tmp_path)
    kb("--notes", notes, "serve")
    assert Path.cwd() != tmp_path
    assert cache_folder() == tmp_path / "here" / inside


def test_schema_is_the_json_schema_of_a_card():
    assert "title" in json.loads(kb("schema").output)["properties"]
