import math

import pytest

from demos import kit
from demos.kit import Evidence


@pytest.mark.parametrize(
    ("evidence", "holds"),
    [
        (kit.equal(1.0, 1.05, 0.1, why=""), True),
        (kit.equal(1.0, 1.2, 0.1, why=""), False),
        (kit.at_least(0.9, 1.0, 0.1, why=""), True),
        (kit.at_least(0.8, 1.0, 0.1, why=""), False),
        (kit.at_most(1.1, 1.0, 0.2, why=""), True),
        (kit.at_most(1.3, 1.0, 0.2, why=""), False),
        (kit.more_than(1.0, 1.0, why=""), False),
        (kit.more_than(1.3, 1.0, 0.2, why=""), True),
        (kit.less_than(1.0, 1.0, why=""), False),
        (kit.less_than(0.7, 1.0, 0.2, why=""), True),
        (kit.rising([1, 2, 2, 3], why=""), True),
        (kit.rising([1, 2, 1.9], why=""), False),
        (kit.falling([3, 2, 2], why=""), True),
        (kit.falling([3, 2, 2.1], why=""), False),
        (kit.not_rejected(0.2, 1e-3, why=""), True),
        (kit.not_rejected(1e-4, 1e-3, why=""), False),
        (kit.rejected(1e-9, 1e-3, why=""), True),
        (kit.rejected(0.5, 1e-3, why=""), False),
    ],
)
def test_evidence_holds_exactly_where_its_relation_does(evidence, holds):
    assert evidence.holds is holds


@pytest.mark.parametrize("relation", ["equal", "at least", "at most", "more than", "less than"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_finite_number_never_holds(relation, value):
    assert not Evidence(value, 0.0, relation, 1e9, "").holds
    assert not Evidence(0.0, value, relation, 1e9, "").holds


def test_a_check_takes_its_name_from_its_function():
    @kit.law("One is one.", source="definition")
    def one_is_one(p):
        return kit.equal(1, 1, 0, why="exact")

    assert (one_is_one.name, one_is_one.kind) == ("one_is_one", "law")
    assert one_is_one.run(None).holds


def test_a_check_that_raises_does_not_hold_and_says_why_while_the_log_says_where(caplog):
    @kit.finding("Nothing.", source="definition")
    def broken():
        raise ZeroDivisionError("by zero")

    outcome = broken.run(None)
    assert not outcome.holds and outcome.error == "ZeroDivisionError: by zero"
    assert "The check broken could not measure." in caplog.text and ", in broken" in caplog.text
