"""A page for the browser tests of formulas: every section of every shipped card, and the formula of every demo."""

import streamlit as st

from demos import kit
from kb.library import SHIPPED, Library

st.set_page_config(layout="wide")
for card in Library.open(SHIPPED).cards.values():
    with st.container(key=f"card-{card.slug}"):
        for text in card.sections.values():
            st.markdown(text)
for demo in kit.catalog().values():
    with st.container(key=f"demo-{demo.slug}"):
        st.latex(demo.formula)
st.markdown("All drawn.")
