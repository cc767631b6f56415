"""Knobs: the parameters of a demo, declared once.

From one annotated dataclass come the page's widgets, the command line's options, the permalink, validation with its
messages, the docs table, and the legal and illegal values that the generic tests try:

    @dataclass(frozen=True)
    class Params(Knobs):
        temperature: Annotated[float, Range(0.05, 20, log=True, doc="temperature T")] = 1.0
        seed: Seed = 0
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Annotated, Any, Self, get_args, get_origin, get_type_hints

MAX_TEXT = 2_000


class BadValue(ValueError):
    """A value that a knob does not take: which knob, what was given, what it takes."""

    def __init__(self, knob: str, given: object, takes: str) -> None:
        self.knob, self.given, self.takes = knob, given, takes
        shown = repr(given) if len(repr(given)) <= 60 else repr(given)[:57] + "..."
        super().__init__(f"{knob}: {shown} is not {takes}.")


@dataclass(frozen=True, kw_only=True)
class Knob:
    """What every kind of knob shares.

    Attributes:
        doc: what it is, with its symbol, in a few words.
        unit: unit of the value, shown beside it.
        view: True when it changes only what is drawn of a result, so that turning it does not run the method again.
        when: (an earlier knob, its values) for which this one matters; elsewhere the page hides it.
    """

    doc: str = ""
    unit: str = ""
    view: bool = False
    when: tuple[str, tuple[object, ...]] | None = None

    def relevant(self, others: Mapping[str, Any]) -> bool:
        """Whether it matters where the other knobs have these values."""
        return self.when is None or others[self.when[0]] in self.when[1]

    def accept(self, value: Any) -> Any:
        """The value in its own type; ValueError where it is not legal."""
        raise NotImplementedError

    def read(self, text: str) -> Any:
        """The value that a text stands for; ValueError where it stands for none."""
        raise NotImplementedError

    def write(self, value: Any) -> str:
        """The text that `read` takes back to the same value."""
        return str(value)

    def takes(self) -> str:
        """The legal values in words, to stand after "is not"."""
        raise NotImplementedError

    def edges(self) -> list[Any]:
        """Legal values at the ends of what is allowed."""
        raise NotImplementedError

    def draw(self, rng: random.Random) -> Any:
        """A random legal value."""
        raise NotImplementedError

    def illegal(self) -> list[Any]:
        """Values just outside what is allowed, and of a wrong type."""
        raise NotImplementedError


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


@dataclass(frozen=True)
class Range(Knob):
    """A number from `low` to `high`, both included; an int where the field is annotated int.

    Attributes:
        low, high: the legal ends.
        shown: the ends of the slider, where the legal range is wider than what is worth sliding over.
        log: slide over the logarithm.
        step: the slider's step (linear sliders).
    """

    low: float
    high: float
    shown: tuple[float, float] | None = None
    log: bool = False
    step: float | None = None
    integer: bool = False

    def accept(self, value: Any) -> float | int:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError
        if not self.low <= value <= self.high or (self.integer and value != int(value)):
            raise ValueError
        return int(value) if self.integer else float(value)

    def read(self, text: str) -> float | int:
        return self.accept(float(text.replace("_", "")))

    def write(self, value: Any) -> str:
        return _number(value)

    def takes(self) -> str:
        kind = "a whole number" if self.integer else "a number"
        return f"{kind} from {_number(self.low)} to {_number(self.high)}" + (f" {self.unit}" if self.unit else "")

    @property
    def span(self) -> tuple[float, float]:
        """The ends that a slider shows."""
        return self.shown or (self.low, self.high)

    def edges(self) -> list[Any]:
        return [self.accept(self.low), self.accept(self.high)]

    def draw(self, rng: random.Random) -> Any:
        low, high = self.span
        if self.log:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        return self.accept(round(value) if self.integer else min(max(value, low), high))

    def illegal(self) -> list[Any]:
        margin = 1 if self.integer else (abs(self.high - self.low) or 1.0) * 1e-3
        outside = [self.low - margin, self.high + margin, math.nan, math.inf, "many", None, True]
        return [*outside, self.low + 0.5] if self.integer else outside


@dataclass(frozen=True, init=False)
class Choice(Knob):
    """One of a few named options."""

    options: tuple[str, ...]

    def __init__(self, *options: str, **shared: Any) -> None:
        object.__setattr__(self, "options", options)
        for name, value in {**_SHARED, **shared}.items():
            object.__setattr__(self, name, value)

    def accept(self, value: Any) -> str:
        if value not in self.options:
            raise ValueError
        return str(value)

    def read(self, text: str) -> str:
        return self.accept(text)

    def takes(self) -> str:
        return "one of " + ", ".join(self.options)

    def edges(self) -> list[Any]:
        return list(self.options)

    def draw(self, rng: random.Random) -> Any:
        return rng.choice(self.options)

    def illegal(self) -> list[Any]:
        return ["", "none of these", 0, None]


_SHARED = {field.name: field.default for field in fields(Knob)}


@dataclass(frozen=True)
class Toggle(Knob):
    """Yes or no."""

    def accept(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def read(self, text: str) -> bool:
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if text.lower() not in words:
            raise ValueError
        return words[text.lower()]

    def write(self, value: Any) -> str:
        return "true" if value else "false"

    def takes(self) -> str:
        return "true or false"

    def edges(self) -> list[Any]:
        return [False, True]

    def draw(self, rng: random.Random) -> Any:
        return rng.random() < 0.5

    def illegal(self) -> list[Any]:
        return ["maybe", 2, None]


@dataclass(frozen=True)
class Numbers(Knob):
    """A short list of numbers, typed as `2, 1, 0.1`.

    Attributes:
        low, high: legal ends of each number.
        fewest, most: how many there may be.
    """

    low: float
    high: float
    fewest: int = 2
    most: int = 10

    def accept(self, value: Any) -> tuple[float, ...]:
        if isinstance(value, (str, bytes)) or not isinstance(value, (tuple, list)):
            raise ValueError
        one = Range(self.low, self.high)
        if not self.fewest <= len(value) <= self.most:
            raise ValueError
        return tuple(one.accept(number) for number in value)

    def read(self, text: str) -> tuple[float, ...]:
        return self.accept([float(part) for part in text.replace("，", ",").strip(" []()").split(",")])

    def write(self, value: Any) -> str:
        return ",".join(_number(number) for number in value)

    def takes(self) -> str:
        count = f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}"
        return f"{count} numbers from {_number(self.low)} to {_number(self.high)}, separated by commas"

    def edges(self) -> list[Any]:
        ends = [self.low, self.high]
        return [
            (self.low,) * self.fewest,
            (self.high,) * self.most,
            tuple(float(ends[i % 2]) for i in range(self.most)),
        ]

    def draw(self, rng: random.Random) -> Any:
        count = rng.randint(self.fewest, self.most)
        return tuple(rng.uniform(self.low, self.high) for _ in range(count))

    def illegal(self) -> list[Any]:
        middle = (self.low + self.high) / 2
        return [
            (middle,) * (self.fewest - 1),
            (middle,) * (self.most + 1),
            (self.high + 1.0,) * self.fewest,
            "x",
            None,
        ]


@dataclass(frozen=True)
class Text(Knob):
    """A line of text, legal where `parse` does not raise ValueError.

    Attributes:
        kind: what the text is, in words ("an inequality in x and y, such as x^2 + y^2 < 1").
        parse: raises ValueError with a message for a text that is not legal; called with the text.
        legal: examples to try, at least one.
        wrong: examples that must be refused.
        longest: number of characters at most.
    """

    kind: str = "a text"
    parse: Callable[[str], object] | None = None
    legal: tuple[str, ...] = ("",)
    wrong: tuple[str, ...] = ()
    longest: int = 200

    def accept(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > self.longest or "\n" in value:
            raise ValueError
        if self.parse is not None:
            self.parse(value)
        return value

    def read(self, text: str) -> str:
        return self.accept(text)

    def takes(self) -> str:
        return f"{self.kind} of at most {self.longest} characters"

    def edges(self) -> list[Any]:
        return list(self.legal)

    def draw(self, rng: random.Random) -> Any:
        return rng.choice(self.legal)

    def illegal(self) -> list[Any]:
        return [*self.wrong, "x" * (self.longest + 1), 0, None]


@dataclass(frozen=True)
class SeedRange(Range):
    """The seed of the demo's random generator; the page shows it with a button for a new one."""


Seed = Annotated[int, SeedRange(0, 2**31 - 1, shown=(0, 999), doc="random seed")]


@dataclass(frozen=True)
class Knobs:
    """Base of every demo's `Params`: checks its values, and turns them into text and back."""

    def __post_init__(self) -> None:
        for name, knob in knobs(type(self)).items():
            object.__setattr__(self, name, _accepted(name, knob, getattr(self, name)))

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> tuple[Self, tuple[BadValue, ...]]:
        """Parameters from texts, such as a permalink's; the missing and bad take their default, the bad are named."""
        declared, values, bad = knobs(cls), {}, []
        for name, text in texts.items():
            if name not in declared:
                bad.append(BadValue(name, text, "a parameter of this demo: it has " + ", ".join(declared)))
                continue
            try:
                values[name] = read_value(name, declared[name], text)
            except BadValue as problem:
                bad.append(problem)
        return cls(**values), tuple(bad)

    def write(self) -> dict[str, str]:
        """Every parameter that is not at its default, as text; `read` takes it back."""
        default = type(self)()
        return {
            name: knob.write(getattr(self, name))
            for name, knob in knobs(type(self)).items()
            if getattr(self, name) != getattr(default, name)
        }

    def run_key(self) -> tuple[Any, ...]:
        """The values on which the result depends: those of the knobs that do not merely change the view."""
        return tuple(getattr(self, name) for name, knob in knobs(type(self)).items() if not knob.view)

    def but(self, **changes: Any) -> Self:
        """The same parameters with some changed."""
        return replace(self, **changes)


def _accepted(name: str, knob: Knob, value: Any) -> Any:
    try:
        return knob.accept(value)
    except (ValueError, TypeError) as problem:
        raise _explained(name, knob, value, problem) from None


def read_value(name: str, knob: Knob, text: str) -> Any:
    """The value that a text stands for; BadValue where it stands for none."""
    try:
        if len(text) > MAX_TEXT:
            raise ValueError
        return knob.read(text.strip())
    except (ValueError, TypeError, OverflowError) as problem:
        raise _explained(name, knob, text, problem) from None


def _explained(name: str, knob: Knob, given: object, problem: Exception) -> BadValue:
    reason = str(problem) if isinstance(knob, Text) else ""
    return BadValue(name, given, knob.takes() + (f" ({reason.rstrip('.')})" if reason else ""))


def knobs(params: type[Knobs]) -> Mapping[str, Knob]:
    """The knobs of a `Params` class by name, in order; TypeError for a field that declares none."""
    found = {}
    hints = get_type_hints(params, include_extras=True)
    for field in fields(params):
        hint = hints[field.name]
        declared = (
            [extra for extra in get_args(hint)[1:] if isinstance(extra, Knob)] if get_origin(hint) is Annotated else []
        )
        if len(declared) != 1:
            raise TypeError(
                f"{params.__qualname__}.{field.name} declares no knob: write Annotated[float, Range(...)] or so."
            )
        knob = declared[0]
        if isinstance(knob, Range) and get_args(hint)[0] is int:
            knob = replace(knob, integer=True)
        found[field.name] = knob
    return MappingProxyType(found)


def probes(params: type[Knobs], *, rng: random.Random, random_draws: int = 3) -> Iterator[Knobs]:
    """Legal parameters to try: the defaults, each knob at each of its edges, and random ones."""
    declared = knobs(params)
    yield params()
    for name, knob in declared.items():
        for value in knob.edges():
            yield params(**{name: value})
    for _ in range(random_draws):
        yield params(**{name: knob.draw(rng) for name, knob in declared.items()})
