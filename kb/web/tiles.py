"""A card in a list: title, byline, why it was found or its key point, and its tags."""

import re

import streamlit as st

from kb.card import Card
from kb.search import Hit, Why
from kb.web.shell import byline, card_link, chinese, escape, titles

GIST = 260


def tile(card: Card, hit: Hit | None = None) -> None:
    """Draws one card; a hit of a search says why it was found."""
    with st.container(border=True, key=f"tile-{card.slug}"):
        card_link(card)
        second = titles(card)[1]
        body = [f"<p class='kb-zh'>{escape(second)}</p>"] if second else []
        body.append(f"<p class='kb-quiet'>{escape(byline(card))}</p>")
        reasons = hit.why if hit else ()
        body += [_reason(why) for why in reasons if why.field not in ("title", "title_zh")][:2]
        if not reasons:
            body.append(f"<p class='kb-why'>{escape(_gist_of(card))}</p>")
        st.html(f"<div class='kb-tile'>{''.join(body)}<div class='kb-tags'>{_tags(card)}</div></div>")


def _reason(why: Why) -> str:
    marked = "".join(f"<mark>{escape(text)}</mark>" if hit else escape(text) for text, hit in why.snippet)
    via = f" <span class='kb-field'>({escape(why.via)})</span>" if why.via else ""
    return f"<p class='kb-why'><span class='kb-field'>{escape(why.field)}</span>{marked}{via}</p>"


def _gist_of(card: Card) -> str:
    return card.summary_zh if chinese() and card.summary_zh else gist(card.Key or card.summary_zh)


def gist(markdown: str) -> str:
    """The first sentences of a text, without its markup, cut at a word."""
    text = re.sub(r"\$+[^$]*\$+|[*_`#>]|\[([^\]]*)\]\([^)]*\)", lambda found: found.group(1) or "", markdown)
    text = " ".join(text.split())
    return text if len(text) <= GIST else text[:GIST].rsplit(" ", 1)[0] + " …"


def _tags(card: Card) -> str:
    tags = [
        f"<span class='kb-tag'>{escape(tag)}</span>"
        for tag in ((card.topic or "").replace("_", " "), *card.tags)
        if tag
    ]
    if card.demos:
        tags.insert(0, f"<span class='kb-tag kb-runs'>▶ {'demo' if len(card.demos) == 1 else 'demos'}</span>")
    return "".join(tags[:7])
