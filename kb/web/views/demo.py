"""One demo: its knobs, its pictures, what to look for, and its claims measured."""

import logging
from functools import partial
from typing import Any

import streamlit as st

from demos import kit
from demos.kit import export
from kb import verify
from kb.card import nearest
from kb.web import claims, controls, measuring, shell
from kb.web.jobs import Results
from kb.web.plot import plot

FRAME_EVERY = 0.2

_log = logging.getLogger("kb.web.views.demo")  # a page's own name is "__main__"


@st.cache_resource
def _results() -> Results:
    return Results()


def main() -> None:
    slug = st.query_params.get("id", "")
    entries = kit.catalog()
    if slug not in entries:
        near = nearest(slug, entries)
        shell.empty(
            f"There is no demo “{slug}”." if slug else "No demo was asked for.", "The gallery shows all of them."
        )
        st.page_link("views/demos.py", label="To the demos", icon=":material/science:")
        if near:
            shell.demo_link(near, entries[near].title)
        return
    entry = entries[slug]
    st.title(shell.plain(entry.title), anchor=False)
    try:
        with st.spinner("Loading torch …", show_time=False):
            demo = kit.load(slug)
    except kit.DemoError as problem:
        st.error(f"{shell.plain(str(problem))} The other demos are not affected.", icon=":material/error:")
        return
    st.markdown(shell.plain(entry.summary))
    for bad in controls.opened(demo):
        st.warning(f"In the link, {shell.plain(str(bad))} It is passed over.", icon=":material/link_off:")
    st.latex(entry.formula)
    _play(demo)
    _below(demo)


def _play(demo: kit.Demo) -> None:
    """The part that reruns alone as knobs turn; while a training runs, it also draws its frames."""
    training = st.session_state.get("job")
    running = demo.entry.pace == "training" and (
        training is None or not (training.done or training.stopped or training.error)
    )
    st.fragment(_turn, run_every=FRAME_EVERY if running else None)(demo, running)


def _turn(demo: kit.Demo, running: bool) -> None:
    left, right = st.columns([4, 9], gap="large")
    with left, st.container(key="knobs"):
        _presets(demo)
        params = controls.turned(demo)
        actions = st.container(horizontal=True, gap="small")
    controls.write_address(demo, params)
    with right:
        result, note = _result(demo, params, running)
        if result is not None:
            _draw(demo, params, result)
        if note:
            st.caption(note)
    with actions:
        _actions(demo, params, result)


def _result(demo: kit.Demo, params: kit.Knobs, running: bool) -> tuple[Any, str]:
    if demo.entry.pace == "live":
        try:
            return _results().live(demo, params), ""
        except Exception as problem:  # a demo's own failure is the reader's to see, in words
            _log.exception("The demo %s failed.", demo.slug)
            return None, _failed("demo", problem)
    job = st.session_state["job"] = _results().train(demo, params, before=st.session_state.get("job"))
    job.first.wait(timeout=1.0)
    settled = job.done or bool(job.error)
    if settled == running:
        # The timer starts with a training and ends with it; a fragment's timer is set where the page declares it.
        st.rerun()
    if job.error:
        return job.frame, _failed("training", job.error)
    waiting = "waiting for another training to end …" if job.frame is None else "training …"
    return job.frame, "Trained." if job.done else f":material/model_training: {waiting}"


def _failed(what: str, problem: object) -> str:
    return f":red[:material/error:] The {what} failed: {shell.plain(str(problem))}"


def _draw(demo: kit.Demo, params: kit.Knobs, result: Any) -> None:
    try:
        readings, figures = demo.readings(params, result), demo.figures(params, result)
    except Exception as problem:
        _log.exception("Drawing the demo %s failed.", demo.slug)
        st.markdown(_failed("drawing", problem))
        return
    texts = {name: value if isinstance(value, str) else claims.number(value) for name, value in readings.items()}
    cells = [f"<div><small>{shell.escape(name)}</small>{shell.escape(text)}</div>" for name, text in texts.items()]
    st.html(f"<div class='kb-readings'>{''.join(cells)}</div>")
    plot(figures, key=demo.slug)
    st.session_state["drawn"] = (demo.slug, params)


def _presets(demo: kit.Demo) -> None:
    with st.container(horizontal=True, gap="xsmall"):
        for name, params in demo.presets.items():
            st.button(
                name,
                key=f"{demo.slug}.preset.{name}",
                on_click=controls.set_widgets,
                args=(demo, params),
            )


def _actions(demo: kit.Demo, params: kit.Knobs, result: Any) -> None:
    defaults = (demo, demo.params())
    st.button("Reset", icon=":material/restart_alt:", key="reset", on_click=controls.set_widgets, args=defaults)
    # What a popover holds is made when it is opened: it would travel with every turn of a knob.
    with st.popover("Share", icon=":material/link:", key="share", on_change="rerun") as share:
        if share.open:
            st.caption("This link shows another reader the same thing.")
            st.code(controls.permalink(demo, params), language=None, wrap_lines=True)
    with st.popover("Data", icon=":material/download:", key="data", on_change="rerun", disabled=result is None) as data:
        if data.open and result is not None:
            st.caption("The numbers behind the figures.")
            for name, mime, write in (
                ("json", "application/json", export.as_json),
                ("csv", "text/csv", export.as_csv),
            ):
                written = partial(write, demo, params, result)
                st.download_button(
                    name.upper(), written, f"{demo.slug}.{name}", mime, key=f"data.{name}", on_click="ignore"
                )


def _below(demo: kit.Demo) -> None:
    text, rail = st.columns([7, 4], gap="large")
    with text:
        st.subheader("What to look for", anchor=False)
        st.html("<ol class='kb-look'>" + "".join(f"<li>{shell.escape(line)}</li>" for line in demo.look_for) + "</ol>")
        st.subheader("Claims, measured", anchor="claims")
        _checks(demo)
    with rail:
        with st.container(key="about"):
            st.subheader("About", anchor=False)
            st.markdown(demo.entry.about)
        _cards(demo)
    with st.expander("The method in code: the very functions that ran", icon=":material/code:"):
        st.code(demo.method(), language="python")


@st.fragment
def _checks(demo: kit.Demo) -> None:
    """The demo's checks with their last records; laws are measured at the knobs' present setting when asked."""
    slug, params = st.session_state.get("drawn", ("", None))
    params = params if slug == demo.slug else demo.params()
    records = {name: record for name, record in verify.recorded().items() if record.demo == demo.slug}
    if st.button("Measure them now, at these settings", icon=":material/play_arrow:", key=f"{demo.slug}.measure"):
        names = [f"{demo.slug}.{name}" for name in demo.checks]
        at = params if params != demo.params() else None
        with st.status("Measuring …") as status:
            for record in measuring.measured(names, lambda text: status.update(label=text), params=at, demo=demo):
                status.update(label=f"Measured: {shell.plain(record.claim)}")
                records[record.name] = record
            status.update(label="All measured; laws at the settings above.", state="complete")
    for name, check in demo.checks.items():
        claims.claim(check.says, records.get(f"{demo.slug}.{name}"), kind=check.kind, source=check.source)


def _cards(demo: kit.Demo) -> None:
    using = [card for card in shell.library().cards.values() if demo.slug in card.demos]
    if using:
        st.markdown("**Cards that use it**")
        for card in using:
            shell.card_link(card)


main()
