r"""Flooding: keep the loss near a floor.

Ishida et al., 2020.

    |J - b| + b

Symbols: $b$ the floor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go

from demos.kit import Evidence, Knobs, Range, at_least, finding, law

TOPIC = "training"


@dataclass(frozen=True)
class Params(Knobs):
    level: Annotated[float, Range(0, 1, doc="flood level b")] = 0.5


PRESETS = {"None": Params(level=0.0), "High": Params(level=1.0)}
LOOK_FOR = ("It floats.", "It never sinks.", "It ends.")


@dataclass(frozen=True)
class Result:
    loss: "float"  # in quotes, as what is defined further down must be


def flood(loss: float, level: float) -> float:
    """|J - b| + b."""
    return abs(loss - level) + level


def run(p: Params) -> Iterator[Result]:
    for loss in (1.0, 0.5, 0.0):
        yield Result(flood(loss, p.level))


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {"Loss": r.loss}


def figure(p: Params, r: Result) -> go.Figure:
    return go.Figure(go.Bar(y=[r.loss]))


@law("It floats.", source="eq. (1)")
def floats(p: Params) -> Evidence:
    return at_least(flood(0.0, p.level), p.level, why="exact")


@finding(says="It ends on the other side.", source="Fig. 1")
def ends_above() -> Evidence:
    return at_least(flood(0.0, 0.5), 1.0, why="exact")
