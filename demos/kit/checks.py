"""Checks: claims about a method that its demo measures.

A *law* holds for every legal parameter value, a *finding* at stated settings and seeds, a *report* is measured and
shown but not enforced. The page, `kb verify` and the tests judge the same objects.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, SupportsFloat

Kind = Literal["law", "finding", "report"]
Relation = Literal["equal", "at least", "at most", "more than", "less than"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """What a check measured, and what it is held against.

    Attributes:
        measured, relation, reference, tolerance: the claim, read in this order, give or take the tolerance; with "more
            than" and "less than", by more than it.
        why: why that tolerance, or that level.
        quantity: what the measured number is, in a few words with its unit.
    """

    measured: float
    reference: float
    relation: Relation
    tolerance: float
    why: str
    quantity: str = ""

    @property
    def holds(self) -> bool:
        if not (math.isfinite(self.measured) and math.isfinite(self.reference)):
            return False
        gap = self.measured - self.reference
        return {
            "equal": abs(gap) <= self.tolerance,
            "at least": gap >= -self.tolerance,
            "at most": gap <= self.tolerance,
            "more than": gap > self.tolerance,
            "less than": gap < -self.tolerance,
        }[self.relation]


def equal(
    measured: SupportsFloat, reference: SupportsFloat, tolerance: float, *, why: str, quantity: str = ""
) -> Evidence:
    """Two numbers agree within a tolerance."""
    return Evidence(float(measured), float(reference), "equal", tolerance, why, quantity)


def at_least(
    measured: SupportsFloat, bound: SupportsFloat, tolerance: float = 0.0, *, why: str, quantity: str = ""
) -> Evidence:
    """A number is not below a bound."""
    return Evidence(float(measured), float(bound), "at least", tolerance, why, quantity)


def at_most(
    measured: SupportsFloat, bound: SupportsFloat, tolerance: float = 0.0, *, why: str, quantity: str = ""
) -> Evidence:
    """A number is not above a bound."""
    return Evidence(float(measured), float(bound), "at most", tolerance, why, quantity)


def more_than(
    measured: SupportsFloat, bound: SupportsFloat, margin: float = 0.0, *, why: str, quantity: str = ""
) -> Evidence:
    """A number exceeds a bound by more than a margin."""
    return Evidence(float(measured), float(bound), "more than", margin, why, quantity)


def less_than(
    measured: SupportsFloat, bound: SupportsFloat, margin: float = 0.0, *, why: str, quantity: str = ""
) -> Evidence:
    """A number stays below a bound by more than a margin."""
    return Evidence(float(measured), float(bound), "less than", margin, why, quantity)


def _steps(values: Iterable[SupportsFloat]) -> list[float]:
    numbers = [float(value) for value in values]
    return [after - before for before, after in itertools.pairwise(numbers)]


def rising(values: Iterable[SupportsFloat], tolerance: float = 0.0, *, why: str, quantity: str = "") -> Evidence:
    """A sequence never falls by more than the tolerance; measured is its smallest step."""
    return at_least(min(_steps(values)), 0.0, tolerance, why=why, quantity=quantity or "smallest step of the sequence")


def falling(values: Iterable[SupportsFloat], tolerance: float = 0.0, *, why: str, quantity: str = "") -> Evidence:
    """A sequence never rises by more than the tolerance; measured is its largest step."""
    return at_most(max(_steps(values)), 0.0, tolerance, why=why, quantity=quantity or "largest step of the sequence")


def not_rejected(p_value: SupportsFloat, level: float, *, why: str, quantity: str = "p-value") -> Evidence:
    """A statistical test does not reject; right code fails with a probability of `level`."""
    return Evidence(float(p_value), level, "at least", 0.0, why, quantity)


def rejected(p_value: SupportsFloat, level: float, *, why: str, quantity: str = "p-value") -> Evidence:
    """A statistical test rejects, as it must for a wrong alternative."""
    return Evidence(float(p_value), level, "less than", 0.0, why, quantity)


@dataclass(frozen=True)
class Outcome:
    """One run of a check: its evidence, or the error that kept it from measuring."""

    evidence: Evidence | None
    error: str
    seconds: float

    @property
    def holds(self) -> bool:
        return self.evidence is not None and self.evidence.holds


@dataclass(frozen=True)
class Check:
    """A claim in words, where it comes from, and the function that measures it."""

    name: str
    kind: Kind
    says: str
    source: str
    measure: Callable[..., Evidence]

    def run(self, params: Any) -> Outcome:
        """Measures at the given parameters (laws) or at the check's own stated settings (findings and reports)."""
        start = time.perf_counter()
        try:
            evidence, error = (self.measure(params) if self.kind == "law" else self.measure()), ""
        except Exception as problem:  # a broken check is a result to show, not a crash of all the others
            _log.exception("The check %s could not measure.", self.name)
            evidence, error = None, f"{type(problem).__name__}: {problem}"
        return Outcome(evidence, error, time.perf_counter() - start)


def _declares(kind: Kind) -> Callable[..., Callable[[Callable[..., Evidence]], Check]]:
    def declare(says: str, *, source: str) -> Callable[[Callable[..., Evidence]], Check]:
        def wrap(measure: Callable[..., Evidence]) -> Check:
            return Check(measure.__name__, kind, says, source, measure)

        return wrap

    return declare


law = _declares("law")
finding = _declares("finding")
report = _declares("report")
