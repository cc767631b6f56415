"""The main journey in a real browser: search, card, demo, slider, link."""

import json
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from demos import kit

pytestmark = pytest.mark.browser


def _search(page, text):
    box = page.get_by_role("searchbox").or_(page.get_by_label("Search the library")).first
    box.fill("")
    box.press_sequentially(text, delay=30)
    return box


def _plot(page, number=0):
    return page.locator(".kb-plot").nth(number)


def _bars(page):
    """Heights of the first figure's bars as plotly drew them."""
    return _plot(page).evaluate("element => element._fullData.map(trace => Array.from(trace.y))")


def test_a_reader_goes_from_a_query_to_a_figure_that_a_link_brings_back(page, server):
    page.goto(server.url)
    expect(page.get_by_text("Categorical Reparameterization with Gumbel-Softmax")).to_be_visible()

    _search(page, "gumble")
    expect(page.locator("[class*=st-key-tile-]").first).to_contain_text("Gumbel")
    expect(page).to_have_url(re.compile(r"q=gumble"))

    _search(page, "知识蒸馏")
    first = page.locator("[class*=st-key-tile-]").first
    expect(first).to_contain_text("Distilling the Knowledge")

    first.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(r"/card\?id=knowledge_distillation"))
    expect(page.get_by_role("heading", name="Methodology")).to_be_visible()
    expect(page.locator(".katex").first).to_be_visible()

    page.get_by_role("link", name="Softmax temperature").first.click()
    expect(page).to_have_url(re.compile(r"/demo\?id=softmax_temperature"))
    expect(_plot(page)).to_have_attribute("data-drawn", re.compile(r"\d+"))
    before = _bars(page)

    slider = page.locator("input[type=range]").first
    slider.focus()
    for _ in range(3):
        slider.press("ArrowRight")
    stands_at = re.escape(slider.get_attribute("aria-valuetext"))
    expect(page).to_have_url(re.compile(rf"temperature={stands_at}(&|$)"))
    expect(page.locator(".kb-plot .legendtext").nth(1)).to_have_text(re.compile(rf"T = {stands_at}"))
    turned, address = _bars(page), page.url
    assert turned != before

    page.goto(address)
    expect(_plot(page)).to_have_attribute("data-drawn", re.compile(r"\d+"))
    assert _bars(page) == turned
    assert not page.trouble


def test_a_link_from_card_to_card_has_its_place_in_the_history(page, server):
    page.goto(f"{server.url}/card?id=cutout")
    title = page.get_by_role("heading", level=1)
    expect(title).to_contain_text("Cutout")
    link = page.locator(".stMain [data-testid=stPageLink] a[href*='id=cutmix']").first
    link.click()
    expect(title).to_contain_text("CutMix")
    expect(page).to_have_url(re.compile(r"/card\?id=cutmix$"))
    expect(title).to_be_in_viewport()
    page.go_back()
    expect(title).to_contain_text("Cutout")
    expect(page).to_have_url(re.compile(r"/card\?id=cutout$"))


def test_a_bad_value_in_a_link_to_a_training_stays_told(page, server):
    page.goto(f"{server.url}/demo?id=mixup&alpha=abc")
    expect(page.get_by_text("Trained.")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("alert")).to_contain_text("alpha: 'abc' is not a number")


def test_one_mount_of_a_figure_lives_through_moves_of_a_slider(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature")
    expect(_plot(page)).to_have_attribute("data-drawn", re.compile(r"\d+"))
    _plot(page).evaluate("element => { element.sameElement = true }")
    slider = page.locator("input[type=range]").first
    slider.focus()
    slider.press("ArrowLeft")
    expect(page).to_have_url(re.compile(r"temperature="))
    page.wait_for_timeout(500)
    assert _plot(page).evaluate("element => element.sameElement === true")
    assert not page.trouble


def test_a_held_arrow_key_ends_with_every_figure_at_the_last_value(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature")
    expect(_plot(page, 2)).to_have_attribute("data-drawn", re.compile(r"\d+"))
    slider = page.locator("input[type=range]").first
    slider.focus()
    for _ in range(20):
        page.keyboard.down("ArrowRight")
        page.wait_for_timeout(33)
    page.keyboard.up("ArrowRight")
    last = slider.get_attribute("aria-valuetext")
    marked = (
        "value => [1, 2].every(n => document.querySelectorAll('.kb-plot')[n].layout.shapes[0].x0 === Number(value))"
    )
    page.wait_for_function(marked, arg=last)
    page.wait_for_timeout(500)
    assert page.evaluate(marked, last)
    expect(page.locator(".kb-plot .legendtext").nth(1)).to_have_text(f"T = {last}")
    assert not page.trouble


def test_zoom_is_kept_while_a_knob_turns(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature")
    expect(_plot(page)).to_have_attribute("data-drawn", re.compile(r"\d+"))
    box = _plot(page).locator(".nsewdrag").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 200, steps=5)
    page.mouse.up()
    read_range = "element => element._fullLayout.yaxis.range"
    zoomed, before = _plot(page).evaluate(read_range), _bars(page)
    assert zoomed != [0, 1.02]
    slider = page.locator("input[type=range]").first
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function("was => document.querySelector('.kb-plot')._fullData[1].y[0] !== was", arg=before[1][0])
    assert _plot(page).evaluate(read_range) == zoomed


def test_the_keyboard_alone_reaches_knobs_presets_and_the_link_to_share(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature")
    expect(_plot(page)).to_have_attribute("data-drawn", re.compile(r"\d+"))

    def tab_to(name):
        on_it = "(e => e.matches('button, input') && (e.innerText || e.ariaLabel))(document.activeElement) || ''"
        for _ in range(30):
            page.keyboard.press("Tab")
            if name in page.evaluate(on_it):
                return
        raise AssertionError(f"Tab never reaches {name}")

    tab_to("T = 1: plain softmax")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"temperature=1(&|$)"))
    tab_to("Temperature T")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"temperature=1\.\d"))
    tab_to("Share")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("stCode").get_by_text("temperature=1.")).to_be_visible()
    assert not page.trouble


def test_turning_knobs_does_not_fill_the_history(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature")
    expect(_plot(page)).to_have_attribute("data-drawn", re.compile(r"\d+"))
    before = page.evaluate("history.length")
    slider = page.locator("input[type=range]").first
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
        page.wait_for_timeout(200)
    expect(page).to_have_url(re.compile(r"temperature="))
    assert page.evaluate("history.length") == before


def test_a_bad_value_in_a_link_is_named_and_the_default_taken(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature&temperature=hot&color=red")
    expect(page.get_by_text("temperature: 'hot' is not a number from 0.05 to 50")).to_be_visible()
    expect(page.get_by_text("color: 'red' is not a parameter of this demo")).to_be_visible()
    expect(_plot(page)).to_have_attribute("data-drawn", re.compile(r"\d+"))
    assert not page.trouble


def test_a_link_cannot_hide_another_behind_words_of_its_own(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature&temperature=[win a prize](https://evil.example)&logits=[1](x)")
    expect(page.get_by_text("'[win a prize](https://evil.example)' is not a number")).to_be_visible()
    expect(page.get_by_text("'[1](x)' is not 2 to 12 numbers")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^(win a prize|1)$"))).to_have_count(0)
    box = page.get_by_role("textbox", name="Logits")
    box.fill("[1](x)")
    box.press("Enter")
    expect(page.get_by_text("'[1](x)' is not 2 to 12 numbers")).to_have_count(2)
    expect(page.get_by_role("link", name="1", exact=True)).to_have_count(0)


def test_whatever_a_card_says_is_shown_as_itself_on_every_page(page, start, tmp_path):
    odd = "<img src=x onerror=alert(1)> [prize](/demos) *x* _y_ ~~z~~ `c` :red[r] :material/info: &amp; $x$ # {t}"
    one_line = ("title", "title_zh", "venue")
    lists = ("authors", "tags", "aliases", "unverified")
    card = {name: f"{name} {odd}" for name in one_line} | {name: [f"{name} {odd}"] for name in lists}
    card["related"] = [{"card": "other", "why": f"related {odd}"}]
    card["claims"] = [{"says": f"says {odd}", "check": "softmax_temperature.cold_is_arg_max"}]
    card["corrections"] = [{name: f"{name} {odd}" for name in ("said", "right", "why")}]
    card["links"] = {"code": "https://evil.example/<img/src=x>"}
    card["Key"] = card["summary_zh"] = "Here Markdown counts, <img src=x onerror=alert(1)> HTML does not."
    (tmp_path / "odd.yaml").write_text(json.dumps(card), encoding="utf-8")
    (tmp_path / "other.yaml").write_text("title: Other", encoding="utf-8")
    (tmp_path / "[prize](demos) <img src=x>.yaml").write_text("title: Bad", encoding="utf-8")
    url = start(notes=tmp_path).url
    in_card = [*one_line, *lists, "related", "says", "said", "right", "why"]
    for path, shown in {
        "/card?id=odd": [f"{name} {odd}" for name in in_card] + ["evil.example/<img/src=x>", "<img src=x onerror"],
        "/": [f"{name} {odd}" for name in ("title", "title_zh", "authors", "tags")],
        "/?q=prize": [f"{name} {odd}" for name in ("title", "title_zh", "tags")],
        "/claims": [f"says {odd}"],
        "/problems": ["[prize](demos) <img src=x>.yaml"],
    }.items():
        page.goto(url + path)
        for text in shown:
            expect(page.get_by_text(text).first).to_be_visible()
        assert page.locator("img[src=x]").count() == 0
        assert page.get_by_role("link", name="prize", exact=True).count() == 0
    assert not page.trouble


def test_a_preset_and_reset_turn_the_knobs(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature")
    page.get_by_role("button", name="T = 1: plain softmax").click()
    expect(page).to_have_url(re.compile(r"temperature=1(&|$)"))
    page.get_by_role("button", name="Reset").click()
    expect(page).to_have_url(re.compile(r"id=softmax_temperature$"))


def test_the_numbers_behind_the_figures_can_be_downloaded(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature&temperature=2")
    expect(_plot(page)).to_have_attribute("data-drawn", re.compile(r"\d+"))
    page.get_by_role("button", name="Data").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    document = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert document["params"]["temperature"] == 2.0
    assert not page.trouble


def test_streamlits_own_chart_takes_over_where_plotly_cannot_be_loaded(page, server):
    page.route("**/api/plotly-*.min.js", lambda route: route.abort())
    page.goto(f"{server.url}/demo?id=softmax_temperature")
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()


TRAINING = [slug for slug, entry in kit.catalog().items() if entry.pace == "training"]


@pytest.mark.parametrize("slug", TRAINING)
def test_a_training_streams_its_frames_without_trouble(page, server, slug):
    page.goto(f"{server.url}/demo?id={slug}")
    expect(_plot(page)).to_have_attribute("data-drawn", re.compile(r"\d+"), timeout=30_000)
    enough = (
        "Number(document.querySelector('.kb-plot').dataset.drawn) > 4 || document.body.innerText.includes('Trained.')"
    )
    page.wait_for_function(enough, timeout=60_000)
    page.wait_for_timeout(500)
    # Knobs at their defaults leave no trace in the address: no timer has reported one that was not set yet.
    expect(page).to_have_url(f"{server.url}/demo?id={slug}")
    assert not page.trouble


def test_a_training_ends_and_says_so(page, server):
    page.goto(f"{server.url}/demo?id=mixup&updates=200")
    expect(page.get_by_text("Trained.")).to_be_visible(timeout=60_000)
    assert not page.trouble


def test_an_edit_on_disk_shows_on_the_open_page_within_two_seconds(page, start, tmp_path):
    def seconds_until(thought):
        begun = time.monotonic()
        expect(page.get_by_text(thought)).to_be_visible()
        return time.monotonic() - begun

    note = tmp_path / "flooding.yaml"
    note.write_text("title: Flooding\nKey: |\n  The first thought.\n", encoding="utf-8")
    page.goto(f"{start(notes=tmp_path).url}/card?id=flooding")
    expect(page.get_by_text("The first thought.")).to_be_visible()
    page.reload(wait_until="commit")
    drawing = seconds_until("The first thought.")  # what this machine, busy as it is, takes for the page alone
    note.write_text("title: Flooding\nKey: |\n  The second thought.\n", encoding="utf-8")
    assert seconds_until("The second thought.") < 2 + drawing
    (tmp_path / "broken.yaml").write_text("title: [\n", encoding="utf-8")
    expect(page.get_by_role("link", name="Problems (1)")).to_be_visible()
    expect(page.get_by_text("The second thought.")).to_be_visible()


def test_the_readers_language_is_remembered(page, server):
    page.goto(f"{server.url}/card?id=moco")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Momentum Contrast"))
    page.get_by_text("中文", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("动量对比"))
    page.wait_for_timeout(500)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("动量对比"))


def test_facets_narrow_the_library_and_are_in_the_address(page, server):
    page.goto(server.url)
    page.get_by_text(re.compile(r"^sampling · \d+$")).click()
    expect(page).to_have_url(re.compile(r"topic=sampling"))
    expect(page.get_by_text(re.compile(r"^\d+ of \d+ cards$"))).to_be_visible()
    counted = page.get_by_text(re.compile(r"^\d+ of \d+ cards$")).inner_text()
    page.reload()
    expect(page.get_by_text(counted)).to_be_visible()


def test_a_link_to_a_page_of_results_shows_that_page(page, server):
    page.goto(server.url)
    first = page.locator("[class*=st-key-tile-]").first
    expect(first).to_be_visible()
    before = first.inner_text()
    page.get_by_role("button", name="Page 2").click()
    expect(page).to_have_url(re.compile(r"\?page=2$"))
    expect(first).not_to_have_text(before, use_inner_text=True)
    shown = first.inner_text()
    page.reload()
    expect(first).to_have_text(shown, use_inner_text=True)
    page.wait_for_timeout(2500)  # a timer that reports the widgets too early would turn back to the first page
    expect(first).to_have_text(shown, use_inner_text=True)
    expect(page).to_have_url(re.compile(r"\?page=2$"))
    assert not page.trouble


@pytest.mark.parametrize("path", ["/", "/demos", "/claims", "/card?id=mixup", "/demo?id=mixup"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone_in_light_and_dark(chromium, server, path, scheme):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{server.url}{path}")
    expect(page.locator("h1, [class*=st-key-tile-]").first).to_be_visible(timeout=30_000)
    page.wait_for_timeout(500)
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390
    context.close()


def test_the_security_headers_are_set_and_the_page_cannot_be_framed(page, server):
    response = page.goto(server.url)
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_script_on_a_page_cannot_reach_another_host(page, server):
    page.goto(server.url)
    expect(page.locator("[class*=st-key-tile-]").first).to_be_visible()
    blocked = page.evaluate("""() => new Promise(blocked => {
        document.addEventListener("securitypolicyviolation", event => blocked(event.violatedDirective));
        try { new WebSocket("ws://127.0.0.1:9").onerror = () => blocked("no: it was tried"); } catch {}
    })""")
    assert blocked == "connect-src"


@pytest.mark.usefixtures("cache")
def test_claims_are_measured_beside_the_app_without_being_asked(page, start, tmp_path):
    claim = "{says: It cools., check: softmax_temperature.cold_is_arg_max}"
    (tmp_path / "heat.yaml").write_text(f"title: Heat\nclaims: [{claim}]\n", encoding="utf-8")
    page.goto(f"{start(notes=tmp_path, measure=True).url}/claims")
    expect(page.get_by_text("It cools.")).to_be_visible()
    expect(page.get_by_text("that hold · 1")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Measure all 1 now")).to_be_visible()
    assert page.trouble == []
