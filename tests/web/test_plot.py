import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture
def phone(chromium):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def swipe(page, element, across):
    """Drags a finger over the middle of an element, pixel by pixel as a hand does."""
    box = element.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    finger = page.context.new_cdp_session(page)

    def touch(kind, *points):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [*points]})

    touch("touchStart", {"x": x - across / 2, "y": y})
    for step in range(1, 11):
        touch("touchMove", {"x": x - across / 2 + across * step / 10, "y": y})
    touch("touchEnd")


def test_on_a_phone_the_figure_stays_in_sight_over_the_knob_that_turns_it(phone, server):
    phone.goto(f"{server.url}/demo?id=gridmask")
    figure = phone.locator(".kb-plot").first
    expect(figure).to_have_attribute("data-drawn", "1")
    knob = phone.get_by_role("slider", name="Side of the object")
    knob.focus()
    expect(figure).to_be_in_viewport(ratio=0.9)
    assert knob.bounding_box()["y"] > figure.bounding_box()["y"] + figure.bounding_box()["height"]
    knob.press("ArrowRight")
    expect(figure).not_to_have_attribute("data-drawn", "1")


def test_on_a_phone_figures_are_swiped_and_a_tap_tells_a_value(phone, server):
    phone.goto(f"{server.url}/demo?id=softmax_temperature")
    first, second = (phone.locator(".kb-plots figure").nth(i) for i in range(2))
    expect(second.locator(".kb-plot")).to_have_attribute("data-drawn", "1")
    expect(second).not_to_be_in_viewport()
    bar = first.locator(".bars path").first.bounding_box()
    phone.touchscreen.tap(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    expect(first.locator(".hovertext")).to_be_visible()
    swipe(phone, first, -250)
    expect(second).to_be_in_viewport(ratio=0.95)
    expect(first).not_to_be_in_viewport(ratio=0.05)


def test_a_demo_that_is_left_leaves_no_listener_behind(page, server):
    window = page.context.new_cdp_session(page)

    def listeners():
        found = window.send("Runtime.evaluate", {"expression": "window"})["result"]["objectId"]
        told = window.send("DOMDebugger.getEventListeners", {"objectId": found})["listeners"]
        return sum(listener["type"] == "resize" for listener in told)

    page.goto(f"{server.url}/demos")
    link = page.get_by_role("link", name="GridMask").first
    expect(link).to_be_visible()
    before = listeners()
    for _ in range(2):
        link.click()
        expect(page.locator(".kb-plot").last).to_have_attribute("data-drawn", "1")
        assert listeners() == before
        page.go_back()
        expect(link).to_be_visible()
        expect(page.locator(".kb-plot")).to_have_count(0)
    assert listeners() == before


@pytest.mark.parametrize("path", ["/demos", "/card?id=mixup"])
def test_where_a_demo_is_likely_to_be_opened_next_plotly_is_loaded_ahead(page, server, path):
    page.goto(server.url + path)
    page.wait_for_function("window.Plotly")
    assert not page.trouble


def test_a_search_is_not_held_up_by_a_script_that_no_result_needs(page, server):
    page.goto(server.url)
    expect(page.locator("[class*=st-key-tile-]").first).to_be_visible()
    page.wait_for_timeout(2000)
    assert page.evaluate("window.Plotly") is None


def test_on_a_phone_a_card_with_a_demo_begins_with_its_title(phone, server):
    phone.goto(f"{server.url}/card?id=mixup")
    phone.wait_for_function("window.Plotly")
    expect(phone.get_by_role("heading", level=1)).to_be_in_viewport()


def test_pictures_keep_their_size_as_a_knob_turns(page, server):
    page.goto(f"{server.url}/demo?id=gridmask")
    figure = page.locator(".kb-plot").first
    expect(figure).to_have_attribute("data-drawn", "1")
    width = "plot => plot.querySelector('image').getBoundingClientRect().width"
    page.wait_for_timeout(500)
    before = figure.evaluate(width)
    page.get_by_role("slider", name="Side of the object").press("ArrowRight")
    expect(figure).to_have_attribute("data-drawn", "2")
    assert figure.evaluate(width) == pytest.approx(before, rel=0.01)


def test_a_figure_follows_the_size_of_its_place(page, server):
    page.goto(f"{server.url}/demo?id=softmax_temperature")
    figure = page.locator(".kb-plot").first
    expect(figure).to_have_attribute("data-drawn", "1")
    for width in (1000, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            "[...document.querySelectorAll('.kb-plot')].every(plot =>"
            " Math.abs(plot._fullLayout.width - plot.clientWidth) <= 1)"
        )
