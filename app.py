"""The web app: `kb serve`, or `streamlit run app.py`."""

import streamlit as st

from kb.web import server

app = st.App("kb/web/main.py", routes=server.ROUTES, middleware=server.MIDDLEWARE, lifespan=server.lifespan)
