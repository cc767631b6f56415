"""What README and docs/ say is what the program does."""

import contextlib
import doctest
import importlib.util
import io
import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from kb import query
from kb.card import schema
from kb.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list(_build().PAGES))
def test_a_generated_page_is_current(name):
    current = _build().PAGES[name]()
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == current, "run `make docs`"


def test_the_page_on_search_names_what_readers_type_and_nothing_of_the_code():
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert all(f"`{typed}`" in page for typed in query.EXAMPLES)
    assert not [name for name in vars(query) if name.isupper() and name in page]


def test_the_schema_that_ships_with_the_cards_is_current():
    shipped = json.loads((ROOT / "notes" / "card.schema.json").read_text(encoding="utf-8"))
    assert shipped == json.loads(json.dumps(schema())), "run `make docs`"


def test_the_python_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.chdir(ROOT):
        exec(compile(code, "README.md", "exec"), {})
    slugs, readings = printed.getvalue().splitlines()
    assert "label_smoothing" in slugs and "Entropy" in readings


def _sessions():
    """(command, the output that README shows under it), from its console blocks."""
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            if command.startswith("kb "):
                yield command, output


@pytest.mark.parametrize(("command", "output"), list(_sessions()), ids=[command for command, _ in _sessions()])
def test_a_command_of_the_readme_prints_what_the_readme_shows(command, output):
    result = CliRunner().invoke(main, shlex.split(command)[1:], catch_exceptions=False)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(output, result.output, flags), result.output


def test_the_readme_shows_commands_with_their_output():
    assert len(list(_sessions())) >= 4


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make (\w+)", README, flags=re.M)):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_links_between_the_documents_lead_to_files():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_command_is_documented_with_a_sentence():
    for command in main.commands.values():
        assert command.help and command.help.split("\n")[0].rstrip().endswith(".")
