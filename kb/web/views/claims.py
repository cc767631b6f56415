"""Every claim of the library with what was measured."""

from collections.abc import Mapping

import streamlit as st

from kb import verify
from kb.library import Library
from kb.web import claims, measuring, shell

FOLLOW_EVERY = 2.0  # seconds, while claims are measured in the background
GROUPS = {"all": "all", "hold": "that hold", "fail": "that do not hold", "open": "not measured yet"}


def main() -> None:
    st.title("Claims, measured", anchor=False)
    library = shell.library()
    named = verify.claimed(library)
    if not named:
        shell.empty("No card makes a claim that a demo checks yet.", "Add `claims:` with a `check:` to a card.")
        return
    if shell.opened(["show"]):
        asked = st.query_params.get("show", "")
        st.session_state["show"] = asked if asked in GROUPS else "all"
    following = measuring.going_on()
    st.fragment(_claims, run_every=FOLLOW_EVERY if following else None)(library, named, following)
    st.caption("Measured on this machine; a record counts until its demo's source changes. `kb verify` does the same.")


def _claims(library: Library, named: Mapping[str, tuple[str, ...]], following: bool) -> None:
    if following and not measuring.going_on():
        st.rerun()
    records = verify.recorded()
    if following:
        done = sum(name in records for name in named)
        st.progress(done / len(named), text=f"Measuring in the background: {done} of {len(named)}")
    elif st.button(f"Measure all {len(named)} now", icon=":material/play_arrow:", key="measure"):
        records = _measured(list(named))
    groups = {
        "all": list(named),
        "hold": [name for name in named if name in records and records[name].holds],
        "fail": [name for name in named if name in records and not records[name].holds],
        "open": [name for name in named if name not in records],
    }
    group = st.radio(
        "Show the claims",
        list(groups),
        format_func=lambda group: f"{GROUPS[group]} · {len(groups[group])}",
        horizontal=True,
        key="show",
    )
    shell.address("claims", {"show": group} if group != "all" else {})
    shown = groups[group]
    if not shown:
        shell.empty("There are none.", "Choose “all” to see every claim.")
    for slug in dict.fromkeys(slug for name in shown for slug in named[name]):
        card = library[slug]
        shell.card_link(card)
        told = [claim for claim in card.claims if claim.check in shown]
        st.html("".join(claims.as_html(claim.says, records.get(claim.check or "")) for claim in told))


def _measured(checks: list[str]) -> dict[str, verify.Record]:
    records: dict[str, verify.Record] = {}
    progress = st.progress(0.0, text="Loading torch …")

    def say(text: str) -> None:
        progress.progress(len(records) / len(checks), text=text)

    for record in measuring.measured(checks, say):
        records[record.name] = record
        say(f"{len(records)} of {len(checks)}: {shell.plain(record.claim)}")
    progress.empty()
    return records


main()
