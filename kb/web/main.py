"""Navigation: which pages there are."""

import streamlit as st

from kb.web import shell

st.set_page_config(page_title="Paper notes that run", page_icon=":material/menu_book:", layout="wide")
shell.lay_out()
PROBLEMS = shell.library().problems
PAGES = [
    st.Page("pages/library.py", title="Library", icon=":material/menu_book:", default=True),
    st.Page("pages/demos.py", title="Demos", icon=":material/science:", url_path="demos"),
    st.Page("pages/claims.py", title="Claims", icon=":material/fact_check:", url_path="claims"),
    st.Page(
        "pages/problems.py",
        title=f"Problems ({len(PROBLEMS)})",
        icon=":material/error:",
        url_path="problems",
        visibility="visible" if PROBLEMS else "hidden",
    ),
    st.Page("pages/card.py", title="Card", url_path="card", visibility="hidden"),
    st.Page("pages/demo.py", title="Demo", url_path="demo", visibility="hidden"),
]
st.navigation(PAGES, position="top").run()
