"""The gallery: every demo with a small picture, by topic."""

from pathlib import Path

import streamlit as st

from demos import kit
from kb.web import shell
from kb.web.plot import load_ahead

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
PER_ROW = 3


def main() -> None:
    st.title("Demos", anchor=False)
    entries = kit.catalog()
    if not entries:
        shell.empty("There are no demos.", "A Python file in demos/ is a demo; CONTRIBUTING.md says how to write one.")
        return
    for topic in dict.fromkeys(sorted(entry.topic for entry in entries.values())):
        st.subheader((topic or "broken").replace("_", " ").capitalize(), anchor=False)
        members = [entry for entry in entries.values() if entry.topic == topic]
        for row in range(0, len(members), PER_ROW):
            for column, entry in zip(st.columns(PER_ROW), members[row : row + PER_ROW], strict=False):
                with column:
                    _exhibit(entry)
    load_ahead()


def _exhibit(entry: kit.Entry) -> None:
    with st.container(border=True, key=f"tile-{entry.slug}"):
        picture = PICTURES / f"{entry.slug}.png"
        if picture.exists():
            st.image(str(picture), width="stretch")
        shell.demo_link(entry.slug, entry.title)
        if entry.error:
            st.caption(f":red[:material/error:] {shell.plain(entry.error)}")
        else:
            pace = "answers at once" if entry.pace == "live" else "trains as you watch"
            st.markdown(shell.plain(entry.summary))
            st.caption(f"{pace} · {len(entry.checks)} checks")


main()
