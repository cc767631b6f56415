"""What is wrong with the library's files, and how to mend each."""

from pathlib import Path

import streamlit as st

from kb.web import shell


def main() -> None:
    st.title("Problems", anchor=False)
    problems = shell.problems()
    if not problems:
        shell.empty("Nothing is wrong.", "Every card reads as it should.")
        return
    st.caption("The other cards are not affected. A file is read again as soon as you save it.")
    for problem in problems:
        with st.container(border=True):
            line = f"line {problem.line}" if problem.line else ""
            where = ", ".join(filter(None, (shell.place(Path(problem.file)), line, problem.field)))
            sign = ":red[:material/error:]" if problem.severity == "error" else ":orange[:material/warning:]"
            st.markdown(f"{sign} **{_sentence(problem.message)}**")
            st.markdown(_sentence(problem.mend))
            st.caption(shell.plain(where))


def _sentence(text: str) -> str:
    return shell.plain(text[:1].upper() + text[1:])


main()
