import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demos import kit


def edit(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_demo_is_listed_by_being_a_file(toy):
    toy.with_name("__init__.py").write_text("")
    (entry,) = kit.catalog().values()
    assert (entry.title, entry.summary, entry.topic) == ("Flooding", "Keep the loss near a floor.", "training")
    assert entry.formula == "|J - b| + b"
    assert entry.about == "Ishida et al., 2020.\n\nSymbols: $b$ the floor."
    assert entry.pace == "training"
    assert entry.checks == {"floats": "It floats.", "ends_above": "It ends on the other side."}


def test_formulas_that_stand_apart_are_rows(toy):
    edit(toy, "|J - b| + b\n\nSymbols", "|J - b|\n    + b\n\n    J > b\n\nSymbols")
    formula = kit.catalog()["toy"].formula
    assert formula == "\\begin{gathered}\n|J - b|\n+ b \\\\[.5em]\nJ > b\n\\end{gathered}"


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("def run(p", "def run(:", "SyntaxError"),
        ("Flooding: keep", "Flooding keeps", "Title: summary"),
        ('TOPIC = "training"', "TOPIC = training", "line 18: instead of training write the text itself"),
        ('"It floats.", source', "LOOK_FOR[0], source", "instead of LOOK_FOR[0] write the text itself"),
        ('says="It', 'says=f"It', "write the text itself"),
        ("class Params", "class Parameters", "must define Params"),
        ("PRESETS", "SETTINGS", "must define PRESETS"),
        ("LOOK_FOR", "HINTS", "must define LOOK_FOR"),
        ("class Result", "class Outcome", "must define Result"),
        ("def run", "def go", "must define run"),
        ("def readings", "def numbers", "must define readings"),
        ("def figure", "def draw", "must define figure"),
    ],
)
def test_a_broken_demo_is_listed_as_broken_beside_the_others_and_is_not_loaded(toy, old, new, error):
    broken = Path(shutil.copy(toy, toy.with_name("broken.py")))
    edit(broken, old, new)
    entries = kit.catalog()
    assert error in entries["broken"].error
    assert not entries["toy"].error
    with pytest.raises(kit.DemoError, match="is broken: "):
        kit.load("broken")


def test_a_link_to_nowhere_is_a_broken_demo_unless_an_editor_hides_it(toy):
    for link in (".#toy.py", "gone.py"):
        toy.with_name(link).symlink_to("nowhere")
    entries = kit.catalog()
    assert list(entries) == ["gone", "toy"] and list(kit.digests()) == ["toy"]
    assert "FileNotFoundError" in entries["gone"].error


def test_listing_follows_an_edit(toy):
    assert kit.catalog()["toy"].title == "Flooding"
    edit(toy, "Flooding:", "Drowning and more:")
    assert kit.catalog()["toy"].title == "Drowning and more"


def test_a_loaded_demo_runs_shows_and_is_cached_by_the_source_that_it_was_loaded_from(toy):
    old = kit.load("toy")
    assert kit.load("toy").module is old.module
    # As long as before and within the same second: Python's own cache of compiled files would not notice.
    edit(toy, "return abs(loss - level) + level", "return abs(loss + level) + level")
    new = kit.load("toy")
    assert (old.result(old.params()).loss, new.result(new.params()).loss) == (1.0, 1.0)
    assert (old.module.flood(1.0, 0.5), new.module.flood(1.0, 0.5)) == (1.0, 2.0)
    assert "loss - level" in old.method() and "loss + level" in new.method()
    assert old.digest != new.digest == kit.digests()["toy"]


def test_a_demo_that_no_longer_imports_leaves_the_loaded_one_alone(toy):
    old = kit.load("toy")
    edit(toy, "PRESETS = {", "PRESETS = 1 / 0, {")
    with pytest.raises(kit.DemoError, match="cannot be imported: ZeroDivisionError"):
        kit.load("toy")
    assert old.checks["floats"].run(old.params()).holds


def test_a_process_whose_kit_was_edited_has_no_digest_of_the_disks_even_when_the_edit_is_taken_back(toy, tmp_path):
    shutil.copytree(Path(kit.__file__).parent, tmp_path / "demos" / "kit")
    shutil.copy(toy, tmp_path / "demos")
    code = """if True:
        from pathlib import Path
        from demos import kit
        demo, file = kit.load("toy"), Path("demos/kit/training.py")
        before = file.read_bytes()
        assert demo.digest == kit.digests()["toy"]
        file.write_bytes(before + b"# edited")
        assert demo.digest != kit.digests()["toy"] != kit.load("toy").digest
        file.write_bytes(before)
        assert demo.digest == kit.load("toy").digest != kit.digests()["toy"]
    """
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_listing_demos_imports_neither_torch_nor_plotly_nor_a_demo():
    code = "import sys; from demos import kit; kit.catalog(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "demos.kit.catalog" in loaded
    assert not {"torch", "plotly", *(f"demos.{slug}" for slug in kit.catalog())} & set(loaded)


def test_an_unknown_demo_is_a_clear_error():
    with pytest.raises(kit.DemoError, match="There is no demo 'no_such_demo'"):
        kit.load("no_such_demo")


def test_no_two_demos_have_the_same_digest():
    assert len(set(kit.digests().values())) == len(kit.catalog())
