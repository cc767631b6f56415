import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demos.kit import inequality
from demos.kit.inequality import parse

X, Y = torch.rand(2, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4 - 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x^2 + y^2 < 1", lambda x, y: x * x + y * y < 1),
        ("x**2 + y**2 <= 1", lambda x, y: x * x + y * y <= 1),
        ("x² + y³ ≤ 1", lambda x, y: x * x + y * y * y <= 1),
        ("-x^2 > −1", lambda x, y: -(x * x) > -1),
        ("2^x^2 < 3·y", lambda x, y: 2 ** (x**2) < 3 * y),
        ("0.2 < x^2 + y^2 < 1", lambda x, y: (x * x + y * y > 0.2) & (x * x + y * y < 1)),
        ("x < 0 and y < 0 or x > 1", lambda x, y: (x < 0) & (y < 0) | (x > 1)),
        ("max(abs(x), abs(y)) < 1", lambda x, y: np.maximum(abs(x), abs(y)) < 1),
        ("min(x, 0.5) >= y/2", lambda x, y: np.minimum(x, 0.5) >= y / 2),
        ("atan2(y, x) < π/3", lambda x, y: np.arctan2(y, x) < math.pi / 3),
        ("sin(x)*cos(y) + tanh(x) < exp(-y)", lambda x, y: np.sin(x) * np.cos(y) + np.tanh(x) < np.exp(-y)),
        ("log(x) < y", lambda x, y: np.where(x > 0, np.log(np.abs(x)) < y, False)),
        ("sqrt(x) > 0.5", lambda x, y: np.where(x > 0, np.sqrt(np.abs(x)) > 0.5, False)),
        ("1/0 > x", lambda x, y: x < math.inf),
        ("10^1000 > x", lambda x, y: x < math.inf),
        ("(-1)^0.5 < x", lambda x, y: np.zeros_like(x, dtype=bool)),
    ],
)
def test_an_inequality_holds_where_numpy_says_it_does(text, expected):
    assert np.array_equal(parse(text)(X, Y).numpy(), expected(X.numpy(), Y.numpy()))


@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (0,)])
def test_any_shape_of_points_is_kept(shape):
    region = parse("x < 1 and 0 < 1")
    assert region(torch.zeros(shape), torch.zeros(shape)).shape == shape


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x^2 + z < 1", "z is not understood; understood are x, y"),
        ("foo(x) < 1", r"foo\(x\) is not understood"),
        ("x % 2 < 1", "x % 2 is not understood"),
        ("not x < 1", "not x < 1 is not understood"),
        ("x in y", "x in y is not understood"),
        ("x < 'one'", "'one' is not understood"),
        ("True < x", "True is not understood"),
        ("1j < x", "1j is not understood"),
        ("sin(x, k=1) < 1", r"sin\(x, k=1\) is not understood"),
        ("max(x) < 1", r"max\(x\): max takes 2 arguments"),
        ("2(x) < 1", r"2\(...\) is not a function; write products with \*"),
        ("x(y + 1) < 1", r"x\(...\) is not a function"),
        ("2x < 1", "'2x < 1' is not a formula.* products"),
        ("|x| < 1", r"write abs\(x\)"),
        ("x^2 + y^2 = 1", "is not a formula; write an inequality"),
        ("x^2 == y", r"x\^2 == y is an equation, which has no area"),
        ("x + y", r"x \+ y is not an inequality"),
        ("x < 1 and y", "y is not an inequality"),
        ("(x < 1) + 1 < 2", "x < 1 is not understood"),
        ("1 < 2", "names neither x nor y"),
        ("", "'' is not a formula; write an inequality"),
        ("x < 1\0", "is not a formula"),
        ("x" * 201, "201 characters are too many"),
        ("+".join("x" * 40) + " < 1", "too many parts"),
        ("-" * 150 + "x < 1", "too many parts"),
    ],
)
def test_what_is_not_understood_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)


@pytest.mark.parametrize("exhausted", [RecursionError, MemoryError])
def test_a_parser_that_gives_up_on_depth_is_explained(monkeypatch, exhausted):
    def give_up(*args, **kwargs):
        raise exhausted

    monkeypatch.setattr(ast, "parse", give_up)
    with pytest.raises(ValueError, match="parentheses are too deep"):
        parse("((x)) < 1")


def test_ninety_five_parentheses_are_read():
    assert torch.equal(parse("(" * 95 + "x" + ")" * 95 + " < 1")(X, Y), X < 1)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true') < x",
        "x.__class__ < 1",
        "(lambda: x)() < 1",
        "[x for x in y] < 1",
        "(x := 1) < 2",
        "x[0] < 1",
        "f'{x}' < y",
        "abs.__globals__ < x",
        "{**x} < 1",
        "x < 1 if y else 2",
        "exec('1') < x",
        "max(*x) < 1",
        "await x < 1",
    ],
)
def test_nothing_but_arithmetic_gets_through(text):
    with pytest.raises(ValueError):
        parse(text)


def test_the_parser_has_no_way_to_run_code():
    tree = ast.parse(Path(inequality.__file__).read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"eval", "exec", "compile", "getattr", "__import__", "ast.literal_eval"}


@given(st.text(alphabet="xyz0123.+-*/^()<>=,&|! absqrtmin'\"[]{}:πe²\\\n#@~", max_size=60))
def test_any_text_is_either_a_region_or_explained(text):
    try:
        region = parse(text)
    except ValueError as problem:
        assert str(problem)
    else:
        holds = region(X, Y)
        assert holds.dtype == torch.bool and holds.shape == X.shape


def test_every_function_named_as_understood_is():
    for name, (count, _) in inequality.FUNCTIONS.items():
        assert name in inequality.UNDERSTOOD
        assert parse(f"{name}({', '.join('xy'[:count])}) < 1")(X, Y).shape == X.shape
