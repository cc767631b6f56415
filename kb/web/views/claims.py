"""Every claim of the library with what was measured."""

import streamlit as st

from kb import verify
from kb.web import claims, shell


def main() -> None:
    st.title("Claims, measured", anchor=False)
    library = shell.library()
    named = verify.claimed(library)
    if not named:
        shell.empty("No card makes a claim that a demo checks yet.", "Add `claims:` with a `check:` to a card.")
        return
    if st.button(f"Measure all {len(named)} now", icon=":material/play_arrow:", type="primary", key="measure"):
        _measure_all(len(named))
    records = verify.recorded()
    held = [name for name in named if name in records and records[name].holds]
    missed = [name for name in named if name in records and not records[name].holds]
    st.markdown(
        f"**{len(held)}** hold · **{len(missed)}** do not · **{len(named) - len(held) - len(missed)}** not measured yet"
    )
    which = st.segmented_control(
        "Show",
        ["all", "that do not hold", "not measured"],
        default="all",
        required=True,
        key="show",
        label_visibility="collapsed",
    )
    shown = {"that do not hold": missed, "not measured": [name for name in named if name not in records]}.get(
        which, list(named)
    )
    if not shown:
        shell.empty("None.", "Choose “all” to see every claim.")
    for slug in dict.fromkeys(slug for name in shown for slug in named[name]):
        shell.card_link(library[slug])
        for claim in library[slug].claims:
            if claim.check in shown:
                claims.claim(claim.says, records.get(claim.check))
    shell_note = "Measured on this machine; a record counts until its demo's source changes. `kb verify` does the same."
    st.caption(shell_note)


def _measure_all(count: int) -> None:
    progress = st.progress(0.0, text="Loading torch …")
    for done, record in enumerate(verify.verify(shell.library()), start=1):
        progress.progress(done / count, text=f"{done} of {count}: {record.claim}")
    progress.empty()


main()
