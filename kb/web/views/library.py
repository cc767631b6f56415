"""The library: search as you type, facets, and the cards that answer."""

import math
import re
from collections.abc import Mapping
from functools import partial

import streamlit as st

from kb import verify
from kb.library import Library
from kb.query import EXAMPLES, Query, parse
from kb.search import Results, search
from kb.web import shell
from kb.web.tiles import tile

PAGE = 24
HAS_DEMO = "has_demo"
FACETS = {"topic": "Topic", "status": "Status", "year": "Year", "tag": "Tag"}
MOST_OPTIONS = 18


def main() -> None:
    library = shell.library()
    if not len(library):
        shell.empty("This library has no cards yet.", "Put a YAML file into its folder; it appears as you save it.")
        return
    _open()
    text = st.text_input(
        "Search the library",
        key="q",
        live="50ms",
        type="search",
        placeholder="Search in English or Chinese: softmax, 知识蒸馏, gumble …",
        label_visibility="collapsed",
    )
    query, page = _narrowed(text), _page(text)
    results = search(library, query, limit=PAGE, offset=(page - 1) * PAGE, verdicts=verify.verdicts(query))
    pages = max(1, math.ceil(results.total / PAGE))
    if page > pages:  # cards went away since the link was made, or since the page was shown
        st.session_state["page"] = pages
        st.rerun()
    with st.sidebar:
        shell.language_switch()
        _facets(library, results)
        with st.expander("What can be typed", icon=":material/help:"):
            st.markdown("  \n".join(f":small[`{typed}` {meaning}]" for typed, meaning in EXAMPLES.items()))
    _notices(library, results)
    with st.container(key="results"):
        for hit in results.hits:
            tile(library[hit.slug], hit if text else None)
    if pages > 1:
        st.pagination(pages, key="page")
    shell.address("", _address(text))


def _open() -> None:
    """Sets the widgets from the address where the page was opened by it."""
    # Only the search box is always there: a group of facets that no answer has is not drawn, and then forgotten.
    if shell.opened(["q"]):
        query, state = st.query_params, st.session_state
        state["q"] = query.get("q", "")
        state[HAS_DEMO] = query.get("has") == "demo"
        for name in FACETS:
            state[name] = query.get_all(name)
        page = query.get("page", "")
        state["page"] = int(page) if re.fullmatch("[1-9][0-9]{0,3}", page) else 1
        state.pop("asked", None)


def _address(text: str) -> dict[str, str | tuple[str, ...]]:
    """The query that brings back what is shown."""
    page = st.session_state.get("page", 1)
    query: dict[str, str | tuple[str, ...]] = {"q": text, **_chosen(), "page": str(page) if page > 1 else ""}
    return {name: value for name, value in query.items() if value}


def _page(text: str) -> int:
    """The shown page of results; another query begins at the first."""
    asked = (text, _chosen())
    if st.session_state.setdefault("asked", asked) != asked:
        st.session_state["asked"] = asked
        st.session_state.pop("page", None)
    return int(st.session_state.get("page", 1))


def _chosen() -> dict[str, tuple[str, ...]]:
    """The facet values that are switched on, by facet."""
    chosen = {name: tuple(st.session_state.get(name) or ()) for name in FACETS}
    chosen["has"] = ("demo",) if st.session_state.get(HAS_DEMO) else ()
    return {name: values for name, values in chosen.items() if values}


def _narrowed(text: str) -> Query:
    """The reader's query, narrowed to the facets that are switched on."""
    query = parse(text)
    for name, values in _chosen().items():
        query = query.narrowed(name, values)
    return query


def _facets(library: Library, results: Results) -> None:
    st.toggle("With a live demo", key=HAS_DEMO)
    for name, title in FACETS.items():
        counts, chosen = results.facets.get(name, {}), st.session_state.get(name) or []
        every = sorted({*counts, *chosen}, key=lambda value: (value not in chosen, -counts.get(value, 0), value))
        shown = every[:MOST_OPTIONS]
        if shown:
            names = library.topic_names if name == "topic" and shell.chinese() else {}
            st.pills(
                title,
                sorted(shown, reverse=True) if name == "year" else shown,
                selection_mode="multi",
                key=name,
                format_func=partial(_counted, counts, names),
            )


def _counted(counts: Mapping[str, int], names: Mapping[str, str], value: str) -> str:
    """A facet's value by its name in the reader's language, with how many of the answers have it."""
    return f"{shell.plain(names.get(value, value.replace('_', ' ')))} · {counts.get(value, 0)}"


def _notices(library: Library, results: Results) -> None:
    notices = list(results.notices)
    if results.suggestion:
        notices.append(f"No card has that as typed; these answer “{results.suggestion}”.")
    for notice in notices:
        st.caption(f":material/info: {shell.plain(notice)}")
    if results.hits:
        noun = "card" if results.total == 1 else "cards"
        whole = results.total == len(library)
        st.caption(f"{results.total} {noun}" if whole else f"{results.total} of {len(library)} cards")
    else:
        shell.empty(
            "Nothing here answers that.",
            "Try fewer words, or another spelling; switched-on facets narrow the search too.",
        )


main()
