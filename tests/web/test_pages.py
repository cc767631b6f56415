"""Every page, run by Streamlit's AppTest: what it shows, when there is nothing, and when something is wrong."""

import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from demos import kit
from kb import verify
from kb.cli import main
from kb.library import SHIPPED, Library
from kb.search import search
from kb.web import shell

MAIN = Path(shell.__file__).with_name("main.py")
PAGE = 24  # cards


@pytest.fixture
def open_page(monkeypatch):
    """Opens a page of the app on a folder of notes, with the given query in the address."""

    def opened(page="", /, notes=SHIPPED, **query):
        monkeypatch.setenv("KB_NOTES", str(notes))
        shell._live.clear()
        app = AppTest.from_file(MAIN, default_timeout=60)
        for name, value in query.items():
            app.query_params[name] = value
        if page:
            app.switch_page(f"views/{page}.py")
        app.run()
        assert not app.exception, app.exception
        return app

    yield opened
    shell._live.clear()


def _texts(app):
    kinds = (app.markdown, app.caption, app.title, app.subheader, app.error, app.warning, app.get("html"))
    return "\n".join(str(getattr(element, "value", None) or element.proto) for kind in kinds for element in kind)


def _address(app):
    """What the page makes of the browser's address."""
    return json.loads(app.get("bidi_component")[-1].proto.json)["address"]


def test_the_library_shows_its_cards(open_page):
    app = open_page()
    assert not app.error and f"{len(shell.library())} cards" in _texts(app)


def test_a_library_that_is_let_go_is_not_followed_any_more(open_page, tmp_path):
    def followed():
        return {thread for thread in threading.enumerate() if thread.name == "library"}

    before = followed()
    open_page(notes=tmp_path)
    open_page()
    assert len(followed() - before) == 1


def test_a_query_in_the_address_is_searched(open_page):
    app = open_page(q="知识蒸馏")
    assert app.text_input(key="q").value == "知识蒸馏"
    found = search(Library.open(SHIPPED), "知识蒸馏").total
    assert f"{found} of {len(shell.library())} cards" in _texts(app) and not app.error


@pytest.mark.parametrize(
    "query",
    ["loss", "gumble", "知識蒸餾", "year:2017..2019 sort:title", "contrast OR (hinton -x", "topic:losses -label"],
)
def test_the_page_the_command_line_and_python_find_the_same_cards_in_the_same_order(open_page, query):
    app = open_page(q=query)
    shown = [link.proto.query_string.removeprefix("id=") for link in app.get("page_link")]
    printed = CliRunner(env={"KB_NOTES": str(SHIPPED)}).invoke(main, ["search", query, "--limit", str(PAGE), "--json"])
    assert shown == [hit["slug"] for hit in json.loads(printed.stdout)]
    assert shown == [hit.slug for hit in search(Library.open(SHIPPED), query, limit=PAGE).hits]
    assert shown


def test_what_was_searched_is_marked_in_titles_snippets_and_tags(open_page):
    app = open_page(q="temperature gumbel")
    titles = [link.proto.label for link in app.get("page_link")]
    assert titles[0] == r"Categorical Reparameterization with :primary-background[Gumbel]\-Softmax"
    tile = next(str(html.proto.body) for html in app.get("html") if "ICLR 2017" in str(html.proto.body))
    assert "<p class='kb-zh'>用 <mark>Gumbel</mark>-Softmax" in tile
    assert "<span class='kb-tag'><mark>temperature</mark></span>" in tile
    assert "<span class='kb-field'>Key</span>" in tile and "τ" in tile and "$" not in tile


def test_a_query_that_nothing_answers_as_typed_says_what_is_shown(open_page):
    app = open_page(q="gumble sofmax")
    assert shell.plain("No card has that as typed; these answer “gumbel softmax”.") in _texts(app)
    assert "gumble → gumbel" in _texts(app)


def test_a_query_that_finds_nothing_says_what_to_do(open_page):
    assert "Nothing here answers that." in _texts(open_page(q="zebra xylophone"))


def test_typing_on_after_no_hits_keeps_every_letter(open_page):
    app = open_page(q="mix")
    for typed in ("qqqq", "qqqqqqqq", "qqqqqqqq zzzz", "mixup"):
        app.text_input(key="q").set_value(typed).run()
        assert app.text_input(key="q").value == typed
    assert app.get("page_link")


def test_the_address_brings_back_the_page_of_results_and_every_facet_even_one_with_a_comma(open_page, tmp_path):
    for number in range(2 * PAGE + 1):
        tag = "[x, 'x,y']" if number else "[rare]"
        (tmp_path / f"card_{number:02}.yaml").write_text(f"title: Card {number:02}\ntags: {tag}\n", encoding="utf-8")
    app = open_page(notes=tmp_path, q="sort:title", tag=["x,y"], page="2")
    shown = [link.proto.label for link in app.get("page_link")]
    assert (shown[0], shown[-1], len(shown)) == ("Card 25", "Card 48", PAGE)
    assert _address(app) == "?q=sort%3Atitle&tag=x,y&page=2"
    app.text_input(key="q").set_value("-rare sort:title").run()
    assert app.get("page_link")[0].proto.label == "Card 01"
    assert _address(app) == "?q=-rare+sort%3Atitle&tag=x,y"


@pytest.mark.parametrize(("asked", "shown"), [("99", 2), ("0", 1), ("-1", 1), ("last", 1), ("9" * 5000, 1)])
def test_a_page_of_results_that_is_not_there_is_the_last_or_the_first(open_page, tmp_path, asked, shown):
    for number in range(PAGE + 1):
        (tmp_path / f"card_{number}.yaml").write_text(f"title: Card {number}\n", encoding="utf-8")
    app = open_page(notes=tmp_path, page=asked)
    assert len(app.get("page_link")) == (1 if shown == 2 else PAGE)


def test_an_empty_library_says_what_to_do(open_page, tmp_path):
    assert "no cards yet" in _texts(open_page(notes=tmp_path))


def test_a_bad_card_leaves_the_others_and_gets_a_page_of_its_own(open_page, tmp_path):
    (tmp_path / "good.yaml").write_text("title: Good\n", encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("title: [Bad\n", encoding="utf-8")
    assert "1 card" in _texts(open_page(notes=tmp_path))
    told = _texts(open_page("problems", notes=tmp_path))
    assert shell.plain("bad.yaml, line") in told


def test_readers_are_not_told_where_on_the_server_the_notes_lie(open_page, tmp_path):
    (tmp_path / "good.yaml").write_text("title: Good\n", encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("title: [Bad\n", encoding="utf-8")
    card, problems = _texts(open_page("card", notes=tmp_path, id="good")), _texts(open_page("problems", notes=tmp_path))
    assert f"Edit this card: {tmp_path.name}/good.yaml" in card and str(tmp_path) not in card
    assert shell.plain(f"{tmp_path.name}/bad.yaml") in problems and shell.plain(str(tmp_path)) not in problems


def test_a_problem_of_a_whole_file_names_no_line(open_page, tmp_path):
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere.yaml")
    where = open_page("problems", notes=tmp_path).caption[-1].value.replace("\\", "")
    assert where.endswith("gone.yaml")


@pytest.mark.parametrize("slug", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_card_opens(open_page, slug):
    app = open_page("card", id=slug)
    assert not app.error
    assert app.subheader[0].value.endswith("Key")


def test_the_readers_language_has_the_first_word(open_page):
    app = open_page("card", id="moco")
    assert app.title[0].value.startswith("Momentum Contrast")
    app.radio(key="language").set_value("中文").run()
    assert app.title[0].value.startswith("动量对比")


@pytest.mark.parametrize(("slug", "told"), [("mixap", "There is no card “mixap”"), ("", "No card was asked for")])
def test_a_card_that_is_not_there_is_a_sentence_not_a_traceback(open_page, slug, told):
    app = open_page("card", id=slug) if slug else open_page("card")
    assert told in _texts(app)
    near = [link.proto.query_string for link in app.get("page_link")][1:]
    assert near == (["id=mixup"] if slug else [])


@pytest.mark.parametrize("slug", sorted(kit.catalog()))
def test_every_demo_opens_with_its_formula_and_its_checks(open_page, slug):
    app = open_page("demo", id=slug)
    assert not app.error and not app.warning
    entry = kit.catalog()[slug]
    assert app.title[0].value == shell.plain(entry.title)
    assert all(shell.escape(says) in _texts(app) for says in entry.checks.values())


def test_a_permalink_sets_the_widgets(open_page):
    app = open_page("demo", id="softmax_temperature", temperature="0.5", logits="1,2,3")
    assert app.select_slider(key="softmax_temperature.temperature").value == 0.5
    assert app.text_input(key="softmax_temperature.logits").value == "1,2,3"


def test_a_bad_value_in_a_permalink_is_named_and_the_default_taken(open_page):
    app = open_page("demo", id="softmax_temperature", temperature="hot")
    assert shell.plain("temperature: 'hot' is not a number from 0.05 to 50") in app.warning[0].value
    assert app.select_slider(key="softmax_temperature.temperature").value == 4.0


def test_a_text_that_cannot_be_read_is_explained_and_the_figure_stays(open_page):
    app = open_page("demo", id="softmax_temperature")
    app.text_input(key="softmax_temperature.logits").set_value("1, two").run()
    assert "is not 2 to 12 numbers" in app.error[0].value
    assert not app.exception


def test_a_knob_keeps_what_was_typed_while_another_hides_it(open_page):
    app = open_page("demo", id="monte_carlo_area", shape="typed")
    app.text_input(key="monte_carlo_area.inequality").set_value("x +").run()
    assert "is not an inequality" in app.error[0].value
    app.radio(key="monte_carlo_area.shape").set_value("circle").run()
    assert not app.error and not app.exception
    app.radio(key="monte_carlo_area.shape").set_value("typed").run()
    assert app.text_input(key="monte_carlo_area.inequality").value == "x +" and app.error


def test_a_demo_that_is_not_there_is_a_sentence_not_a_traceback(open_page):
    app = open_page("demo", id="softmax_temperatur")
    assert "There is no demo “softmax_temperatur”" in _texts(app)
    assert [link.proto.query_string for link in app.get("page_link")][1:] == ["id=softmax_temperature"]


@pytest.mark.parametrize("broken", ["run", "readings", "figure"])
def test_a_demo_that_fails_says_so_in_words_and_in_the_log_and_keeps_its_knobs(open_page, monkeypatch, caplog, broken):
    def fail(*_):
        raise ValueError("the logits are lost")

    monkeypatch.setattr(kit.load("softmax_temperature").module, broken, fail)
    app = open_page("demo", id="softmax_temperature", temperature="0.7")
    assert "failed: the logits are lost" in _texts(app)
    assert app.button(key="reset") and not app.exception
    assert "Traceback" in caplog.text and "the logits are lost" in caplog.text


@pytest.mark.usefixtures("cache")
def test_an_edited_demo_is_shown_run_and_measured_as_it_is_now(open_page, toy):
    app = open_page("demo", id="toy")
    app.button(key="toy.measure").click().run()
    assert "return abs(loss - level)" in app.code[-1].value and "measured <b>1</b>" in _texts(app)
    toy.write_text(toy.read_text(encoding="utf-8").replace("abs(loss - level)", "-abs(loss - level)"), encoding="utf-8")
    app = open_page("demo", id="toy")
    assert "return -abs(loss - level)" in app.code[-1].value and "Not measured yet" in _texts(app)
    app.button(key="toy.measure").click().run()
    assert "does not hold here" in _texts(app)


def test_the_gallery_names_every_demo(open_page):
    app = open_page("demos")
    told = _texts(app)
    assert all(shell.plain(entry.summary) in told for entry in kit.catalog().values())


def test_the_claims_page_lists_every_claim_of_every_card(open_page):
    told = _texts(open_page("claims"))
    for card in shell.library().cards.values():
        for claim in card.claims:
            assert not claim.check or shell.escape(claim.says) in told


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("page", "slug", "button"),
    [
        ("claims", "", "measure"),
        ("card", "heat", "measure"),
        ("demo", "softmax_temperature", "softmax_temperature.measure"),
    ],
)
def test_a_reader_measures_claims_with_a_button(open_page, tmp_path, page, slug, button):
    claim = "{says: It cools., check: softmax_temperature.cold_is_arg_max}"
    (tmp_path / "heat.yaml").write_text(f"title: Heat\nclaims: [{claim}]\n", encoding="utf-8")
    app = open_page(page, notes=tmp_path, id=slug)
    assert "Not measured yet." in _texts(app)
    app.button(key=button).click().run()
    assert not app.exception and "Not measured yet." not in _texts(app)
    assert "softmax_temperature.cold_is_arg_max" in verify.recorded()


def test_the_address_says_which_claims_are_shown(open_page):
    app = open_page("claims", show="open")
    assert app.radio(key="show").value == "open" and _address(app) == "?show=open"
    app.radio(key="show").set_value("all").run()
    assert _address(app) == ""
    assert open_page("claims", show="none of them").radio(key="show").value == "all"


def test_browsing_the_library_and_a_card_does_not_import_torch(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys\nfrom streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(MAIN)!r}, default_timeout=60)\n"
        "app.run()\napp.query_params['id'] = 'mixup'\napp.switch_page('views/card.py').run()\n"
        "app.switch_page('views/demos.py').run()\nassert not app.exception\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
