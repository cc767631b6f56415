"""A page for the browser test of formulas: every section of every shipped card, one after the other."""

import streamlit as st

from kb.library import SHIPPED, Library

for card in Library.open(SHIPPED).cards.values():
    with st.container(key=f"card-{card.slug}"):
        for text in card.sections.values():
            st.markdown(text)
st.markdown("All drawn.")
