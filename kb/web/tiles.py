"""A card in a list: title, byline, why it was found or its key point, and its tags; what was searched is marked."""

from collections.abc import Sequence

import streamlit as st

from kb.card import Card, readable
from kb.search import Hit, Why
from kb.web.shell import byline, card_link, chinese, escape, plain, titles

GIST = 260
REASONS = 2
LABELS = ("aliases", "topic", "links", "slug")  # told only where they say more than what is marked anyway
# What a place of a card is called in a list, where it is not called by its own name.
CALLED = {
    "aliases": "also called",
    "tags": "tag",
    "summary_zh": "摘要",
    "claims": "claim",
    "corrections": "correction",
    "links": "link",
    "slug": "file",
}
Pieces = tuple[tuple[str, bool], ...]


def tile(card: Card, hit: Hit | None = None) -> None:
    """Draws one card; a hit of a search says why it was found."""
    whys = hit.why if hit else ()
    marked = {"".join(text for text, _ in why.snippet): why.snippet for why in whys}
    first, second = (marked.get(title, ((title, False),)) for title in titles(card))
    with st.container(border=True, key=f"tile-{card.slug}"):
        card_link(card, "".join(f":primary-background[{plain(text)}]" if hit else plain(text) for text, hit in first))
        body = [f"<p class='kb-zh'>{_with_marks(second)}</p>"] if titles(card)[1] else []
        body.append(f"<p class='kb-quiet'>{escape(byline(card))}</p>")
        told = _untold(whys, {*titles(card), *_tags(card)})
        body += map(_reason, told)
        if not told:
            body.append(f"<p class='kb-why'>{escape(gist(card))}</p>")
        if read := dict.fromkeys(why.via for why in whys if why.via):
            body.append(f"<p class='kb-field'>{escape(', '.join(read))}</p>")
        tags = "".join(
            f"<span class='kb-tag'>{_with_marks(marked.get(tag, ((tag, False),)))}</span>" for tag in _tags(card)
        )
        if card.demos:
            tags = f"<span class='kb-tag kb-runs'>▶ {'demo' if len(card.demos) == 1 else 'demos'}</span>{tags}"
        st.html(f"<div class='kb-tile'>{''.join(body)}<div class='kb-tags'>{tags}</div></div>")


def _untold(whys: Sequence[Why], in_sight: set[str]) -> list[Why]:
    """What says more than the marks in the title and the tags do, what is in the reader's language first."""
    marks = [{text.casefold() for text, hit in why.snippet if hit} for why in whys]
    shown = ["".join(text for text, _ in why.snippet) in in_sight for why in whys]
    named = set().union(*(words for words, seen in zip(marks, shown, strict=True) if seen))
    told = [
        why
        for why, words, seen in zip(whys, marks, shown, strict=True)
        if not seen and not (why.field in LABELS and words <= named)
    ]
    return sorted(told, key=lambda why: why.field == "summary_zh" and not chinese())[:REASONS]


def _reason(why: Why) -> str:
    called = CALLED.get(why.field, why.field)
    return f"<p class='kb-why'><span class='kb-field'>{escape(called)}</span>{_with_marks(why.snippet)}</p>"


def _with_marks(pieces: Pieces) -> str:
    return "".join(f"<mark>{escape(text)}</mark>" if hit else escape(text) for text, hit in pieces)


def gist(card: Card) -> str:
    """The first sentences of a card in the reader's language, cut at a word."""
    text = readable(card.summary_zh if chinese() and card.summary_zh else card.Key or card.summary_zh)
    return text if len(text) <= GIST else text[:GIST].rsplit(" ", 1)[0] + " …"


def _tags(card: Card) -> list[str]:
    """As many as a tile has room for, the topic first."""
    return [tag for tag in ((card.topic or "").replace("_", " "), *card.tags) if tag][:6]
