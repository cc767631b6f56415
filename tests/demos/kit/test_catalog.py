import subprocess
import sys

import pytest

from demos import kit

GOOD = '''r"""Flooding: keep the loss near a floor.

Ishida et al., 2020.

    |J - b| + b

Symbols: $b$ the floor.
"""
TOPIC = "training"


@law("It floats.", source="eq. (1)")
def floats(p): ...


def run(p):
    yield 1
'''


def test_a_demo_is_listed_by_being_a_file(tmp_path):
    (tmp_path / "flooding.py").write_text(GOOD, encoding="utf-8")
    (tmp_path / "__init__.py").write_text("")
    entry = kit.catalog(tmp_path)["flooding"]
    assert (entry.title, entry.summary, entry.topic) == ("Flooding", "Keep the loss near a floor.", "training")
    assert entry.formula == "|J - b| + b"
    assert entry.about == "Ishida et al., 2020.\n\nSymbols: $b$ the floor."
    assert (entry.pace, dict(entry.checks)) == ("training", {"floats": "It floats."})


def test_formulas_that_stand_apart_are_rows(tmp_path):
    text = GOOD.replace("|J - b| + b", "|J - b|\n    + b\n\n    J > b")
    (tmp_path / "flooding.py").write_text(text, encoding="utf-8")
    formula = kit.catalog(tmp_path)["flooding"].formula
    assert formula == "\\begin{gathered}\n|J - b|\n+ b \\\\[.5em]\nJ > b\n\\end{gathered}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def run(:", "SyntaxError"),
        ('"""No colon here."""\nTOPIC = "training"\n', "Title: summary"),
        ('"""A: b."""\n', "TOPIC"),
    ],
)
def test_a_broken_demo_is_listed_as_broken_beside_the_others(tmp_path, text, error):
    (tmp_path / "flooding.py").write_text(GOOD, encoding="utf-8")
    (tmp_path / "broken.py").write_text(text, encoding="utf-8")
    entries = kit.catalog(tmp_path)
    assert error in entries["broken"].error
    assert not entries["flooding"].error


def test_listing_follows_an_edit(tmp_path):
    file = tmp_path / "flooding.py"
    file.write_text(GOOD, encoding="utf-8")
    assert kit.catalog(tmp_path)["flooding"].title == "Flooding"
    file.write_text(GOOD.replace("Flooding", "Drowning and more"), encoding="utf-8")
    assert kit.catalog(tmp_path)["flooding"].title == "Drowning and more"


def test_listing_demos_imports_neither_torch_nor_plotly_nor_a_demo():
    code = "import sys; from demos import kit; kit.catalog(); print([m for m in sys.modules if m == 'torch'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_demo_is_a_clear_error():
    with pytest.raises(kit.DemoError, match="There is no demo 'no_such_demo'"):
        kit.load("no_such_demo")


def test_the_digest_is_of_the_source():
    assert kit.digest("softmax_temperature") == kit.digest("softmax_temperature")
    assert len({kit.digest(slug) for slug in kit.catalog()}) == len(kit.catalog())
