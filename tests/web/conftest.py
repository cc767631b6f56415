"""A running app and a browser for the tests of this folder."""

from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from tests.web.running import browsing, serving

# Streamlit probes for its base path when a page is opened by its address; these two are its own.
PROBES = ("/_stcore/health", "/_stcore/host-config")


@pytest.fixture(scope="session")
def start():
    """Starts a server, `start(notes=...)` or `start(script=...)`; every one is stopped in the end."""
    with ExitStack() as running:
        yield lambda **what: running.enter_context(serving(**what))


@pytest.fixture(scope="session")
def server(start):
    return start()


@pytest.fixture(scope="session")
def chromium():
    # Two cores may be busy with the rest of the suite.
    expect.set_options(timeout=20_000)
    with browsing() as browser:
        yield browser


@pytest.fixture
def page(chromium):
    """A fresh page that collects what went wrong in `page.trouble`: console errors, exceptions, foreign requests."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.trouble = []

    def failed(response):
        if response.status >= 400 and not response.url.endswith(PROBES):
            page.trouble.append(f"{response.status} {response.url}")

    def said(message):
        if message.type == "error" and "404" not in message.text:
            page.trouble.append(message.text)

    def asked(request):
        if not request.url.startswith(("http://localhost:", "ws://localhost:", "data:", "blob:")):
            page.trouble.append(f"request to another host: {request.url}")

    page.on("response", failed)
    page.on("console", said)
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("request", asked)
    yield page
    context.close()
