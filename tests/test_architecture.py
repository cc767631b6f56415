"""The arrows of CONTRIBUTING.md: who may import whom, read from the source."""

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "plotly", "streamlit")


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(*patterns):
    found = [sorted(ROOT.glob(pattern)) for pattern in patterns]
    assert all(found), f"nothing is named like one of {patterns}"
    return [path for paths in found for path in paths]


def _reaches(path, names):
    return sorted({name for name in _imports(path) for wanted in names if f"{name}.".startswith(f"{wanted}.")})


def _ids(path):
    return str(path.relative_to(ROOT))


CORE = _files("kb/cache.py", "kb/card/*.py", "kb/library/*.py", "kb/query.py", "kb/search/*.py")


@pytest.mark.parametrize("path", CORE, ids=_ids)
def test_cards_library_and_search_know_no_heavy_package(path):
    assert not _reaches(path, HEAVY)


@pytest.mark.parametrize("path", _files("kb/card/*.py"), ids=_ids)
def test_cards_know_nothing_else_of_kb(path):
    assert all(name.startswith("kb.card") for name in _reaches(path, ["kb"]))


@pytest.mark.parametrize("path", _files("kb/library/*.py"), ids=_ids)
def test_the_library_knows_only_cards(path):
    assert all(name.startswith(("kb.card", "kb.library", "kb.cache")) for name in _reaches(path, ["kb", "demos"]))


@pytest.mark.parametrize("path", _files("demos/*.py", "demos/kit/*.py"), ids=_ids)
def test_demos_know_neither_kb_nor_streamlit(path):
    assert not _reaches(path, ["kb", "streamlit"])


@pytest.mark.parametrize("path", _files("demos/*.py"), ids=_ids)
def test_demos_never_import_each_other(path):
    assert all(name.startswith("demos.kit") or name == "demos" for name in _reaches(path, ["demos"]))
    named = {name for name in _imports(path) if name.startswith("demos.") and not name.startswith("demos.kit")}
    assert not named


@pytest.mark.parametrize("path", [path for path in _files("kb/**/*.py") if "web" not in path.parts], ids=_ids)
def test_only_the_web_app_knows_streamlit(path):
    assert not _reaches(path, ["streamlit", "starlette"])


def test_the_command_line_and_the_web_app_never_import_each_other():
    assert not _reaches(ROOT / "kb/cli.py", ["kb.web"])
    assert not [path for path in _files("kb/web/**/*.py") if _reaches(path, ["kb.cli"])]


def test_only_the_loader_imports_a_demo():
    for path in _files("kb/**/*.py", "demos/kit/*.py"):
        assert not {name for name in _reaches(path, ["demos"]) if not name.startswith("demos.kit") and name != "demos"}


@pytest.mark.parametrize(
    ("folders", "lists"),
    [
        (("kb", "demos"), ("requirements.txt",)),
        (("tests", "benchmarks", "docs"), ("requirements.txt", "requirements-test.txt")),
    ],
)
def test_every_package_that_is_imported_is_pinned(folders, lists):
    imported = {
        name.partition(".")[0]
        for path in _files(*(f"{folder}/**/*.py" for folder in folders))
        for name in _imports(path)
    }
    distributions = packages_distributions()
    ours = {"kb", "demos", "tests", *sys.stdlib_module_names}
    pinned = {line.partition("==")[0] for name in lists for line in (ROOT / name).read_text().splitlines()}
    assert not [name for name in imported - ours if not pinned & set(distributions[name])]
