"""Every formula of the whole library and of the demos, drawn by the KaTeX that the app uses."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from demos import kit
from kb.library import SHIPPED, Library

pytestmark = pytest.mark.browser

SCRIPT = Path(__file__).with_name("every_section.py")


def test_every_formula_renders_and_those_of_demos_fit_a_laptop(page, start):
    page.goto(start(script=SCRIPT).url)
    expect(page.get_by_text("All drawn.")).to_be_visible(timeout=120_000)
    page.wait_for_timeout(3000)
    wrong = page.evaluate("""() => [...document.querySelectorAll('.katex-error')].map(error =>
        error.closest('[class*=st-key-]').className.match(/st-key-(\\S+)/)[1] + ': ' + error.title)""")
    assert wrong == []
    wide = page.evaluate("""() => [...document.querySelectorAll('[class*=st-key-demo-]')]
        .filter(demo => demo.querySelector('.katex-html').scrollWidth > demo.clientWidth)
        .map(demo => demo.className.match(/st-key-demo-(\\S+)/)[1])""")
    assert wide == []
    # A dollar sign that is left over is a formula that Markdown did not take for one.
    left = page.evaluate("""() => [...document.querySelectorAll('[class*=st-key-card-] p, [class*=st-key-card-] li')]
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.includes('$')))
        .map(e => e.textContent.slice(0, 80))""")
    assert left == []
    formulas = sum(_formulas(text) for card in Library.open(SHIPPED).cards.values() for text in card.sections.values())
    assert page.locator(".katex").count() == formulas + len(kit.catalog())


def _formulas(text):
    display = len(re.findall(r"\$\$.+?\$\$", text, flags=re.S))
    inline = len(re.findall(r"(?<!\\)\$[^$]+?\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.S)))
    return display + inline
