"""Navigation: which pages there are."""

from pathlib import Path

import streamlit as st

from kb.web import shell

ICON = Path(__file__).with_name("icon.svg")

st.set_page_config(page_title="Paper notes that run", page_icon=str(ICON), layout="wide")
shell.lay_out()
LIBRARY, PROBLEMS = shell.library(), shell.problems()
PAGES = [
    st.Page("views/library.py", title="Library", icon=":material/menu_book:", default=True),
    st.Page("views/demos.py", title="Demos", icon=":material/science:", url_path="demos"),
    st.Page("views/claims.py", title="Claims", icon=":material/fact_check:", url_path="claims"),
    st.Page(
        "views/problems.py",
        title=f"Problems ({len(PROBLEMS)})",
        icon=":material/error:",
        url_path="problems",
        visibility="visible" if PROBLEMS else "hidden",
    ),
    st.Page("views/card.py", title="Card", url_path="card", visibility="hidden"),
    st.Page("views/demo.py", title="Demo", url_path="demo", visibility="hidden"),
]
st.navigation(PAGES, position="top").run()
shell.follow_edits(LIBRARY)
