"""The library: search as you type, facets, and the cards that answer."""

import math

import streamlit as st
from kb.search import Results, search

from kb.library import Library
from kb.web import shell
from kb.web.tiles import tile

PAGE = 24
FACETS = {"topic": "Topic", "status": "Status", "year": "Year", "tag": "Tag"}
MOST_OPTIONS = 18


def main() -> None:
    library = shell.library()
    if not len(library):
        shell.empty(
            "This library has no cards yet.", "Put a YAML file into its folder; it appears here as you save it."
        )
        return
    text = st.text_input(
        "Search the library",
        key="q",
        bind="query-params",
        live="50ms",
        type="search",
        placeholder="Search in English or Chinese: softmax, 知识蒸馏, gumble …",
        label_visibility="collapsed",
    )
    results = search(library, _narrowed(text or ""), limit=PAGE, offset=_offset(text or ""))
    with st.sidebar:
        _facets(library, results)
    _notices(library, results)
    with st.container(key="results"):
        for row in range(0, len(results.hits), 2):
            for column, hit in zip(st.columns(2), results.hits[row : row + 2], strict=False):
                with column:
                    tile(library[hit.slug], hit if text else None)
    if results.total > PAGE:
        st.pagination(math.ceil(results.total / PAGE), key="page")


def _offset(text: str) -> int:
    """Where the shown page of results begins; another query begins at the first."""
    asked = (text, _chosen())
    if st.session_state.get("asked") != asked:
        st.session_state["asked"] = asked
        st.session_state.pop("page", None)
    return (st.session_state.get("page", 1) - 1) * PAGE


def _chosen() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The facet values that are switched on, by facet."""
    chosen = {name: tuple(st.session_state.get(name) or ()) for name in FACETS}
    chosen["has"] = ("demo",) if st.session_state.get("has_demo") else ()
    return tuple((name, values) for name, values in chosen.items() if values)


def _narrowed(text: str) -> str:
    """The reader's query, narrowed to the facets that are switched on."""
    narrowing = ["(" + " OR ".join(f'{name}:"{value}"' for value in values) + ")" for name, values in _chosen()]
    return " ".join([f"({text})" if text.strip() and narrowing else text, *narrowing]).strip()


def _facets(library: Library, results: Results) -> None:
    st.toggle("With a live demo", key="has_demo", bind="query-params")
    counts = {"topic": library.topics, "status": library.statuses, "year": library.years, "tag": library.tags}
    for name, title in FACETS.items():
        every = sorted(counts[name], key=lambda value: (-counts[name][value], str(value)))[:MOST_OPTIONS]
        if name == "year":
            every = sorted(every, reverse=True)
        if every:
            now = results.facets.get(name, {})
            st.pills(
                title,
                [str(value) for value in every],
                selection_mode="multi",
                key=name,
                bind="query-params",
                format_func=lambda value, now=now: f"{value.replace('_', ' ')} · {now.get(value, 0)}",
            )


def _notices(library: Library, results: Results) -> None:
    for notice in results.notices:
        st.caption(f":material/info: {shell.plain(notice)}")
    if results.hits:
        noun = "card" if results.total == 1 else "cards"
        whole = results.total == len(library)
        st.caption(f"{results.total} {noun}" if whole else f"{results.total} of {len(library)} cards")
    else:
        advice = "Try fewer words, or another spelling; switched-on facets narrow the search too."
        if results.suggestion:
            advice = f"Did you mean “{results.suggestion}”?"
        shell.empty("Nothing here answers that.", advice)


main()
