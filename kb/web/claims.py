"""How a claim and its evidence are shown, wherever they are."""

import math

import streamlit as st

from kb.verify import Record
from kb.web.shell import escape

SIGNS = {"holds": "✓", "fails": "✗", "report": "•", "open": "○"}


def number(value: float) -> str:
    """A measured number, short enough to read and long enough to judge."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.5g}" if 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"


def claim(says: str, record: Record | None, *, kind: str = "", source: str = "") -> None:
    """Shows one claim: its sign, its sentence, and what was measured against what, and why that tolerance."""
    st.html(as_html(says, record, kind=kind, source=source))


def as_html(says: str, record: Record | None, *, kind: str = "", source: str = "") -> str:
    """One claim as `claim` shows it."""
    state = _state(record)
    lines = [f"<span class='kb-sign' title='{state}'>{SIGNS[state]}</span><span class='kb-says'>{escape(says)}</span>"]
    if record is None:
        lines.append("<span class='kb-evidence'>Not measured yet.</span>")
    elif record.error:
        lines.append(f"<span class='kb-evidence'>Could not be measured: {escape(record.error)}</span>")
    else:
        lines.append(f"<span class='kb-evidence'>{evidence(record)}</span>")
    origin = " · ".join(part for part in (record.kind if record else kind, record.source if record else source) if part)
    why = f"{escape(record.why)}. " if record and record.why else ""
    if why or origin:
        lines.append(f"<span class='kb-why'>{why}{escape(origin)}</span>")
    return f"<div class='kb-claim {state}'>{''.join(lines)}</div>"


def evidence(record: Record) -> str:
    """Measured, relation, reference and tolerance, as HTML."""
    assert record.measured is not None and record.reference is not None and record.tolerance is not None
    margin = {"equal": " ± ", "at least": " − ", "at most": " + ", "more than": " + ", "less than": " − "}[
        record.relation
    ]
    allowed = f"{margin}{number(record.tolerance)}" if record.tolerance else ""
    what = f" ({escape(record.quantity)})" if record.quantity else ""
    verdict = "" if record.holds else " — does not hold here"
    relation = "equal to" if record.relation == "equal" else record.relation
    return (
        f"measured <b>{number(record.measured)}</b>{what}, claimed {relation} "
        f"{number(record.reference)}{allowed}{verdict}"
    )


def _state(record: Record | None) -> str:
    if record is None:
        return "open"
    if record.holds:
        return "holds"
    return "fails" if record.failed else "report"
