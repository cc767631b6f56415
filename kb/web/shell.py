"""What stands on every page: the library as it is on disk now, the reading room's style, and links."""

import html
import string
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlencode

import streamlit as st

from demos import kit
from kb import verify
from kb.card import Card, Problem
from kb.library import Library, LiveLibrary

STYLE = Path(__file__).with_name("style.css")
SCRIPT = Path(__file__).with_name("page.js")
CHECK_FOR_EDITS = 1.0
LANGUAGES = ("English", "中文")
COOKIE = "kb_language"
_ESCAPED = str.maketrans({sign: f"\\{sign}" for sign in string.punctuation})  # Markdown takes each of them so


@st.cache_resource(on_release=LiveLibrary.close)
def _live() -> LiveLibrary:
    return LiveLibrary(Library.open())


def library() -> Library:
    """The library as it is on disk, at most a second or two old."""
    return _live().snapshot


def problems() -> tuple[Problem, ...]:
    """What is wrong with the cards, and with what they say of demos."""
    demos = tuple((slug, entry.error, tuple(entry.checks)) for slug, entry in kit.catalog().items())
    return _problems(library(), demos)


@lru_cache(maxsize=2)
def _problems(library: Library, demos: tuple[object, ...]) -> tuple[Problem, ...]:
    return (*library.problems, *verify.problems(library))


def lay_out() -> None:
    """The style, the theme's variables, and the reader's language."""
    st.html(f"<style>{STYLE.read_text(encoding='utf-8')}</style>")
    _in_browser()(key="theme", data={"language": st.session_state.get("language", "")}, height=1)


@st.cache_resource
def _in_browser():  # type: ignore[no-untyped-def]
    script = SCRIPT.read_text(encoding="utf-8")
    return st.components.v2.component("kb.page", html="<div class='kb-page'></div>", js=script, isolate_styles=False)


def opened(widgets: Iterable[str]) -> bool:
    """Whether the page was just opened, by a link or by going back, so that its widgets are to be set from the address.

    From then on the widgets are the truth and the address follows them (`address`); the query that a rerun reports
    may be older than the widgets.
    """
    return not all(key in st.session_state for key in widgets)


def arrived(slug: str) -> None:
    """Adds this card to the browser's history where a link on another card led here, which Streamlit does not."""
    _in_browser()(key="address", data={"page": "card", "shown": slug}, height=1)


def address(page: str, query: Mapping[str, str | tuple[str, ...]]) -> None:
    """Makes the address of a page, while the browser is there, say `query` in place of what it says now.

    Going back skips it; a timer of the page that a reader has just left changes nothing. Several values of a name stand
    one by one: a value may hold any separator.
    """
    search = "?" + urlencode(query, doseq=True, safe=",") if query else ""
    _in_browser()(key="address", data={"page": page, "address": search}, height=1)


def language_switch() -> None:
    """English or Chinese first; the browser remembers it, and at first it is the browser's own language."""
    if "language" not in st.session_state:
        st.session_state["language"] = _readers_language()
    st.radio(
        "Language", LANGUAGES, key="language", horizontal=True, label_visibility="collapsed", persist_state="session"
    )


def chinese() -> bool:
    """Whether the reader has Chinese first."""
    return bool(st.session_state.get("language", _readers_language()) == LANGUAGES[1])


def _readers_language() -> str:
    remembered = unquote(st.context.cookies.get(COOKIE, ""))
    if remembered in LANGUAGES:
        return remembered
    return LANGUAGES[(st.context.locale or "").startswith("zh")]


@st.fragment(run_every=CHECK_FOR_EDITS)
def follow_edits(shown: Library) -> None:
    """Draws the page again when the library is no longer the one shown.

    Called last: a timer that fires before Streamlit knows which page this is would leave the page empty.
    """
    if library() is not shown:
        st.rerun()


def byline(card: Card) -> str:
    """Authors in short, venue or year."""
    who = card.authors[0] + (" et al." if len(card.authors) > 2 else "") if card.authors else ""
    if len(card.authors) == 2:
        who = " and ".join(card.authors)
    where = card.venue or (str(card.year) if card.year else "")
    return " · ".join(part for part in (who, where) if part)


def titles(card: Card) -> tuple[str, str]:
    """The card's title in the reader's language, and the other one; empty where there is none."""
    both = (card.title_zh, card.title) if chinese() else (card.title, card.title_zh)
    return both if both[0] else (both[1], "")


def card_link(card: Card, label: str = "") -> None:
    """A link to a card's page, by its title unless `label` (Markdown) says it otherwise."""
    st.page_link("views/card.py", label=label or plain(titles(card)[0]), query_params={"id": card.slug})


def demo_link(slug: str, label: str, *, icon: str | None = None) -> None:
    """A link to a demo's page."""
    st.page_link("views/demo.py", label=plain(label), icon=icon, query_params={"id": slug})


def place(file: Path) -> str:
    """A file as readers name it, within its folder of notes: where that stands on the server is not theirs to know."""
    folder = next((folder for folder in library().folders if file.is_relative_to(folder)), None)
    return str(file.relative_to(folder.parent) if folder else file)


def plain(text: str) -> str:
    """A text made safe to stand in Markdown as itself."""
    return text.translate(_ESCAPED)


def escape(text: str) -> str:
    """A text made safe to stand in HTML."""
    return html.escape(text, quote=True)


def empty(title: str, advice: str) -> None:
    """What a page shows when there is nothing: what that means, and what to do."""
    st.html(f"<div class='kb-empty'><p>{escape(title)}</p><p>{escape(advice)}</p></div>")
