"""A result as data: the numbers behind a demo's figures, for reading elsewhere."""

import csv
import io
import json
import math
from html import escape
from typing import Any

from demos.kit.catalog import Demo
from demos.kit.knobs import Knobs


def as_json(demo: Demo, params: Knobs, result: Any) -> str:
    """The parameters, the readings and every trace of the figures as JSON."""
    document = {
        "demo": demo.slug,
        "params": vars(params),
        "readings": demo.readings(params, result),
        "figures": [
            {"caption": caption, "traces": [trace.to_plotly_json() for trace in figure.data]}
            for caption, figure in demo.figures(params, result).items()
        ],
    }
    return json_text(document)


def json_text(value: object) -> str:
    """A value as JSON that every reader takes: arrays as lists, null for what is not finite, else text."""
    return json.dumps(_plain(value), ensure_ascii=False, indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str() | int() | None:
            return value
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def as_csv(demo: Demo, params: Knobs, result: Any) -> str:
    """Every point of the figures' traces as a row: figure, trace, x, y, z (z of images and heat maps, flattened)."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["figure", "trace", "x", "y", "z"])
    for caption, figure in demo.figures(params, result).items():
        for number, trace in enumerate(figure.data):
            name = trace.name or f"trace {number}"
            for point in _points(trace.to_plotly_json()):
                rows.writerow([caption, name, *point])
    return text.getvalue()


def _points(trace: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
    x, y, z = (_listed(trace.get(axis)) for axis in "xyz")
    if z and isinstance(z[0], list):
        return [(x[j] if x else j, y[i] if y else i, value) for i, line in enumerate(z) for j, value in enumerate(line)]
    length = max(len(x), len(y), len(z))
    return [tuple(axis[i] if i < len(axis) else "" for axis in (x, y, z)) for i in range(length)]  # type: ignore[misc]


def _listed(values: Any) -> list[Any]:
    if values is None:
        return []
    return list(values.tolist()) if hasattr(values, "tolist") else list(values)


def as_html(demo: Demo, params: Knobs, result: Any) -> str:
    """The figures as one page, with plotly's script inside: it opens anywhere, without a network."""
    parts = [f"<!doctype html><meta charset='utf-8'><title>{escape(demo.entry.title)}</title>"]
    parts.append(f"<h1>{escape(demo.entry.title)}</h1><p>{escape(demo.entry.summary)}</p>")
    for number, (caption, figure) in enumerate(demo.figures(params, result).items()):
        parts.append(figure.to_html(full_html=False, include_plotlyjs=number == 0))
        parts.append(f"<p>{escape(caption)}</p>")
    return "\n".join(parts)
