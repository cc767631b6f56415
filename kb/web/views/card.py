"""One card: its six sections, what it rests on, and where to go from here."""

import streamlit as st

from demos import kit
from kb import verify
from kb.card import Card, nearest
from kb.library import Library
from kb.web import claims, measuring, shell
from kb.web.plot import load_ahead

SIGNS = {
    "Key": "🔑 Key",
    "Source": "🎓 Source",
    "Motivation": "🌱 Motivation",
    "Methodology": "💊 Methodology",
    "Exps": "📐 Exps",
    "Ideas": "💡 Ideas",
    "Notes": "📝 Notes",
}
ADDRESSES = {"arxiv": "https://arxiv.org/abs/{}", "doi": "https://doi.org/{}"}


def main() -> None:
    library, slug = shell.library(), st.query_params.get("id", "")
    if slug not in library:
        near = nearest(slug, library)
        shell.empty(
            f"There is no card “{slug}”." if slug else "No card was asked for.", "The library lists all of them."
        )
        st.page_link("views/library.py", label="To the library", icon=":material/menu_book:")
        if near:
            shell.card_link(library[near])
        return
    card = library[slug]
    text, rail = st.columns([7, 3], gap="large")
    # The rail first: its language switch decides what the text begins with.
    with rail:
        shell.language_switch()
    with text:
        _head(card)
        _prose(card)
        _claims(card)
        _corrections(card)
    with rail:
        _facts(library, card)
    shell.arrived(slug)
    if card.demos:
        load_ahead()


def _head(card: Card) -> None:
    first, second = shell.titles(card)
    st.title(shell.plain(first), anchor=False)
    if second:
        st.html(f"<p class='kb-title'>{shell.escape(second)}</p>")
    st.html(f"<p class='kb-quiet'>{shell.escape(shell.byline(card))}</p>")


def _prose(card: Card) -> None:
    with st.container(key="prose"):
        if card.summary_zh and shell.chinese():
            with st.container(border=True):
                st.markdown(card.summary_zh)
        for name, text in card.sections.items():
            st.subheader(SIGNS[name], anchor=name.lower())
            st.markdown(text)
        if card.summary_zh and not shell.chinese():
            with st.expander("中文摘要", icon=":material/translate:"):
                st.markdown(card.summary_zh)


def _claims(card: Card) -> None:
    if not card.claims:
        return
    st.subheader("Claims, measured", anchor="claims")
    with st.container(key="claims"):
        checks = [claim.check for claim in card.claims if claim.check]
        if checks and st.button("Measure them now", icon=":material/play_arrow:", key="measure"):
            with st.status(f"Measuring {len(checks)} claims …") as status:
                for record in measuring.measured(checks, lambda text: status.update(label=text)):
                    status.update(label=f"Measured: {shell.plain(record.claim)}")
                status.update(label="All measured.", state="complete")
        records = verify.recorded()
        for claim in card.claims:
            claims.claim(claim.says, records.get(claim.check or ""))
            if claim.check:
                shell.demo_link(claim.check.partition(".")[0], f"Measured by {claim.check}", icon=":material/science:")


def _corrections(card: Card) -> None:
    if not card.corrections:
        return
    st.subheader("Corrected from the original notes", anchor="corrections")
    with st.container(key="corrections"):
        for correction in card.corrections:
            st.markdown(f"~~{shell.plain(correction.said)}~~  \n{shell.plain(correction.right)}")
            if correction.why:
                st.caption(shell.plain(correction.why))


def _facts(library: Library, card: Card) -> None:
    if card.demos:
        with st.container(border=True):
            st.markdown("**Try it live**")
            entries = kit.catalog()
            for slug in card.demos:
                title = entries[slug].title if slug in entries else slug.replace("_", " ")
                shell.demo_link(slug, title, icon=":material/science:")
    facts = {
        "Authors": shell.escape(", ".join(card.authors)),
        "Venue": shell.escape(card.venue),
        "Year": str(card.year or ""),
        "Topic": shell.escape((card.topic or "").replace("_", " ")),
        "Tags": shell.escape(", ".join(card.tags)),
        "Also known as": shell.escape(", ".join(card.aliases)),
        "Status": card.status,
        "Added": str(card.added or ""),
        "Links": "<br>".join(_address(kind, link) for kind, link in card.links.items()),
        "Not confirmed": shell.escape(", ".join(card.unverified)),
    }
    st.html("".join(f"<p class='kb-fact'><b>{name}</b>{value}</p>" for name, value in facts.items() if value))
    _neighbors(library, "Related", [(related.card, related.why) for related in card.related])
    mentioned = {related.card for related in card.related}
    back = [(link.card, link.why) for link in library.backlinks.get(card.slug, ()) if link.card not in mentioned]
    _neighbors(library, "Linked from", back)
    st.html(f"<p class='kb-quiet'>Edit this card: {shell.escape(shell.place(library.files[card.slug]))}</p>")


def _address(kind: str, link: str) -> str:
    address = ADDRESSES.get(kind, "{}").format(link)
    shown = f"{kind}: {link}" if kind in ADDRESSES else link.removeprefix("https://").rstrip("/")
    return f"<a href='{shell.escape(address)}' target='_blank' rel='noopener'>{shell.escape(shown)}</a>"


def _neighbors(library: Library, title: str, links: list[tuple[str, str]]) -> None:
    known = [(slug, why) for slug, why in links if slug in library]
    if not known:
        return
    st.markdown(f"**{title}**")
    for slug, why in known:
        shell.card_link(library[slug])
        if why:
            st.caption(shell.plain(why))


main()
