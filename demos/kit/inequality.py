"""Inequalities in x and y, typed by a reader and compiled to torch operations.

`parse("x^2 + y^2 < 1")` gives a function of two tensors. Python's grammar reads the text, with `^` for powers; every
node of the tree must then be one of those named here, and becomes a torch operation. Nothing is evaluated as code.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import reduce

import torch
from torch import Tensor

LONGEST = 200  # characters
MOST_PARTS = 60  # names, numbers and operations: ten million points pass through so many in a second or two

Value = Tensor | float
Expression = Callable[[Tensor, Tensor], Value]
Region = Callable[[Tensor, Tensor], Tensor]

SPELLINGS = {"^": "**", "≤": "<=", "≥": ">=", "−": "-", "·": "*", "×": "*", "²": "**2", "³": "**3", "π": "pi"}
CONSTANTS = {"pi": math.pi, "e": math.e}
FUNCTIONS: Mapping[str, tuple[int, Callable[..., Tensor]]] = {  # name -> how many arguments, torch's function
    "abs": (1, torch.abs),
    "sqrt": (1, torch.sqrt),
    "exp": (1, torch.exp),
    "log": (1, torch.log),
    "sin": (1, torch.sin),
    "cos": (1, torch.cos),
    "tan": (1, torch.tan),
    "atan": (1, torch.atan),
    "atan2": (2, torch.atan2),
    "tanh": (1, torch.tanh),
    "floor": (1, torch.floor),
    "min": (2, torch.minimum),
    "max": (2, torch.maximum),
}
OPERATORS: Mapping[type[ast.AST], Callable[..., Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
COMPARISONS: Mapping[type[ast.AST], Callable[[Value, Value], Tensor]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
JUNCTIONS: Mapping[type[ast.AST], Callable[[Tensor, Tensor], Tensor]] = {ast.And: operator.and_, ast.Or: operator.or_}

UNDERSTOOD = (
    "understood are x, y, numbers, pi, e, + - * / ^, the comparisons < <= > >=, and, or, "
    f"and the functions {', '.join(FUNCTIONS)}"
)


def parse(text: str) -> Region:
    """The region where an inequality holds: a function of x and y (any one shape) that gives bools of that shape.

    Comparisons may be chained (`0.2 < x^2 + y^2 < 1`) and joined by `and` and `or`. Where a side is not a number, as in
    log(-1), the inequality does not hold.

    Raises:
        ValueError: what in the text is not understood, and what is.
    """
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters are too many: at most {LONGEST} are read")
    tree = _tree(text)
    if sum(isinstance(node, ast.expr) for node in ast.walk(tree)) > MOST_PARTS:
        raise ValueError(f"it has too many parts: at most {MOST_PARTS} names, numbers and operations are read")
    region = _region(tree)
    if not _varies(tree):
        raise ValueError("it names neither x nor y, so it bounds no shape")
    return region


def _tree(text: str) -> ast.expr:
    spelled = reduce(lambda so_far, spelling: so_far.replace(*spelling), SPELLINGS.items(), text.strip())
    try:
        return ast.parse(spelled, mode="eval").body
    except (RecursionError, MemoryError):
        raise ValueError("its parentheses are too deep") from None
    except (SyntaxError, ValueError):
        raise ValueError(f"'{_shown(spelled)}' is not a formula; {_hint(text)}") from None


def _hint(text: str) -> str:
    if "|" in text:
        return "write abs(x) for |x|"
    if not any(sign in text for sign in "<>≤≥"):
        return "write an inequality, such as x^2 + y^2 < 1"
    return "close every parenthesis, write products with * (2*x, not 2x), and compare with < <= > or >="


def _shown(source: ast.AST | str) -> str:
    text = source if isinstance(source, str) else ast.unparse(source)
    return text.replace(" ** ", "^").replace("**", "^")


def _refused(node: ast.AST) -> ValueError:
    return ValueError(f"{_shown(node)} is not understood; {UNDERSTOOD}")


def _region(node: ast.expr) -> Region:
    match node:
        case ast.Compare(left=first, ops=signs, comparators=rest):
            if any(isinstance(sign, ast.Eq | ast.NotEq) for sign in signs):
                raise ValueError(f"{_shown(node)} is an equation, which has no area; compare with < <= > or >=")
            if any(type(sign) not in COMPARISONS for sign in signs):
                raise _refused(node)
            return _chained([COMPARISONS[type(sign)] for sign in signs], [_expression(side) for side in (first, *rest)])
        case ast.BoolOp(op=sign, values=parts):
            regions, join = [_region(part) for part in parts], JUNCTIONS[type(sign)]
            return lambda x, y: reduce(join, (region(x, y) for region in regions))
        case _:
            _expression(node)
            raise ValueError(f"{_shown(node)} is not an inequality; compare it with something by < <= > or >=")


def _chained(signs: list[Callable[[Value, Value], Tensor]], sides: list[Expression]) -> Region:
    def holds(x: Tensor, y: Tensor) -> Tensor:
        values = [side(x, y) for side in sides]
        steps = (sign(low, high) for sign, low, high in zip(signs, values, values[1:], strict=False))
        return reduce(operator.and_, steps, torch.ones_like(x, dtype=torch.bool))

    return holds


def _expression(node: ast.expr) -> Expression:
    compiled = _compiled(node)
    if _varies(node):
        return compiled
    # Worked out once: torch raises to a number's power several times faster than to a tensor's.
    nowhere = torch.zeros((), dtype=torch.float64)
    constant = float(compiled(nowhere, nowhere))
    return lambda x, y: constant


def _compiled(node: ast.expr) -> Expression:
    match node:
        case ast.Name(id="x"):
            return lambda x, y: x
        case ast.Name(id="y"):
            return lambda x, y: y
        case ast.Name(id=name) if name in CONSTANTS:
            return lambda x, y: _tensor(CONSTANTS[name])
        case ast.Constant(value=number) if isinstance(number, int | float) and not isinstance(number, bool):
            return lambda x, y: _tensor(float(number))
        case ast.UnaryOp(op=sign, operand=part) if type(sign) in OPERATORS:
            one, apply = _expression(part), OPERATORS[type(sign)]
            return lambda x, y: apply(one(x, y))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            a, b, combine = _expression(left), _expression(right), OPERATORS[type(sign)]
            # A tensor on the left: torch divides by zero and raises to any power where Python's floats raise errors.
            return lambda x, y: combine(_tensor(a(x, y)), b(x, y))
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in FUNCTIONS:
            count, function = FUNCTIONS[name]
            if len(parts) != count:
                raise ValueError(f"{_shown(node)}: {name} takes {count} argument{'s' if count > 1 else ''}")
            arguments = [_expression(part) for part in parts]
            return lambda x, y: function(*(_tensor(argument(x, y)) for argument in arguments))
        case ast.Call(func=ast.Name(id="x" | "y") | ast.Constant()):
            raise ValueError(f"{_shown(node.func)}(...) is not a function; write products with *")
        case _:
            raise _refused(node)


def _tensor(value: Value) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _varies(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) and part.id in ("x", "y") for part in ast.walk(node))
