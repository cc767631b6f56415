"""A demo's knobs as widgets, and its parameters as the page's address.

The address is the truth when a page opens or the reader goes back; from then on the widgets are, and the address
follows them.
"""

import math
import random
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from demos import kit
from kb.web import shell

LOG_STEPS = 100
LINEAR_STEPS = 200
FEW_OPTIONS = 4


def opened(demo: kit.Demo) -> tuple[kit.BadValue, ...]:
    """Sets the widgets from the address where the page was opened by it; returns what in it could not be read.

    That is told as long as the page is open: a training runs the page again before anybody has seen it.
    """
    unread = f"{demo.slug}.unread"
    if shell.opened(_key(demo, name) for name in kit.knobs(demo.params)):
        params, bad = demo.params.read({name: value for name, value in st.query_params.items() if name != "id"})
        set_widgets(demo, params)
        st.session_state[unread] = bad
    return tuple(st.session_state.get(unread, ()))


def set_widgets(demo: kit.Demo, params: kit.Knobs) -> None:
    """Turns every widget to the given parameters."""
    for name, knob in kit.knobs(demo.params).items():
        value = getattr(params, name)
        st.session_state[_key(demo, name)] = knob.write(value) if _typed(knob) else value
        if isinstance(knob, kit.Range) and knob.log:
            st.session_state[_key(demo, name) + ".stops"] = _log_stops(knob, value)


def write_address(demo: kit.Demo, params: kit.Knobs) -> None:
    """Makes the address say what the widgets say: every parameter that is not at its default."""
    shell.address("demo", {"id": demo.slug, **params.write()})


def turned(demo: kit.Demo) -> kit.Knobs:
    """Draws the widgets and returns the parameters they stand at; an unreadable text keeps the last good one."""
    good: dict[str, Any] = st.session_state.setdefault(f"{demo.slug}.good", {})
    values: dict[str, Any] = {}
    declared = kit.knobs(demo.params)
    for name, knob in declared.items():
        drawn = knob.relevant(values)
        try:
            values[name] = good[name] = _widget(demo, name, knob) if drawn else _kept(demo, name, knob)
        except kit.BadValue as problem:
            if drawn:
                st.error(shell.plain(str(problem)), icon=":material/error:")
            values[name] = good.get(name, getattr(demo.params(), name))
    return demo.params(**values)


def _kept(demo: kit.Demo, name: str, knob: kit.Knob) -> Any:
    """The value of a knob that is not drawn, which the session would forget."""
    key = _key(demo, name)
    value = st.session_state[key] = st.session_state[key]
    return kit.read_value(name, knob, value) if _typed(knob) else value


def _typed(knob: kit.Knob) -> bool:
    return isinstance(knob, kit.Numbers | kit.Text)


def _key(demo: kit.Demo, name: str) -> str:
    return f"{demo.slug}.{name}"


def label(name: str, knob: kit.Knob) -> str:
    """What stands over a knob: what it is, with its unit."""
    text = knob.doc or name.replace("_", " ")
    # A symbol is not a word: α must not become Α.
    start = text[:1].upper() if text[:1].isascii() else text[:1]
    return start + text[1:] + (f", {knob.unit}" if knob.unit else "")


def _widget(demo: kit.Demo, name: str, knob: kit.Knob) -> Any:
    key, title = _key(demo, name), label(name, knob)
    # The value is given twice: by the session for Python, and here for the browser, whose timer may report a widget
    # before it has taken over what the session says.
    value = st.session_state[key]
    match knob:
        case kit.SeedRange():
            return _seed(key, title, knob)
        case kit.Range(log=True):
            return st.select_slider(title, st.session_state[f"{key}.stops"], value, key=key, format_func=_short)
        case kit.Range():
            return _slider(key, title, knob)
        case kit.Choice(options=options):
            if len(options) <= FEW_OPTIONS:
                return st.radio(title, options, options.index(value), key=key, format_func=_words, horizontal=True)
            return st.selectbox(title, options, options.index(value), key=key, format_func=_words)
        case kit.Toggle():
            return st.toggle(title, value, key=key)
        case _:
            text = st.text_input(title, value, key=key, help=f"Takes {knob.takes()}.")
            return kit.read_value(name, knob, text)


def _words(option: str) -> str:
    return option.replace("_", " ")


def _slider(key: str, title: str, knob: kit.Range) -> Any:
    value = st.session_state[key]
    low, high = min(knob.span[0], value), max(knob.span[1], value)
    if knob.integer:
        return st.slider(title, int(low), int(high), value, key=key, step=int(knob.step or 1))
    step = knob.step or 10 ** math.floor(math.log10((high - low) / LINEAR_STEPS * 2))
    return st.slider(title, float(low), float(high), value, key=key, step=float(step), format="%g")


def _seed(key: str, title: str, knob: kit.Range) -> Any:
    left, right = st.columns([2, 1], vertical_alignment="bottom", wrap=False)
    with right:
        st.button(
            "New", key=f"{key}.new", help="Draw a new seed", icon=":material/casino:", on_click=_new_seed, args=(key,)
        )
    with left:
        return st.number_input(title, int(knob.low), int(knob.high), st.session_state[key], key=key, step=1)


def _new_seed(key: str) -> None:
    # Which seed a reader draws is not part of any result: the seed itself is shown and in the address.
    st.session_state[key] = random.SystemRandom().randrange(1000)


def _log_stops(knob: kit.Range, value: float) -> list[float]:
    """The stops of a logarithmic slider, round numbers with the ends and the present value among them."""
    low, high = (math.log(end) for end in knob.span)
    exact = [math.exp(low + (high - low) * i / LOG_STEPS) for i in range(LOG_STEPS + 1)]
    stops = {float(f"{stop:.2g}") for stop in exact[1:-1]} | {*knob.span, value}
    inside = [stop for stop in stops if min(knob.span[0], value) <= stop <= max(knob.span[1], value)]
    return sorted({round(stop) for stop in inside} if knob.integer else {float(stop) for stop in inside})


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def permalink(demo: kit.Demo, params: kit.Knobs) -> str:
    """The page's full address with every parameter that is not at its default."""
    here = (st.context.url or "").split("?")[0]
    return f"{here}?{urlencode({'id': demo.slug, **params.write()}, safe=',')}"
