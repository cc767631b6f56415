"""The web app: pages and the pieces they share; the only place beside app.py that knows Streamlit."""
