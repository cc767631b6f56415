"""Why a card was found: the places where the words of a query stand in it, marked in its own text."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from kb.card import Card
from kb.search import text
from kb.search.index import PLACES, texts
from kb.search.matching import Mark, Step

WINDOW: Final = 160  # characters of a section that a snippet shows


@dataclass(frozen=True)
class Why:
    """One place where a card matches.

    Attributes:
        field: the card's field.
        snippet: its text or the telling part of it, in pieces; True marks what matched.
        via: `typed → found` when a correction of a typo led here.
    """

    field: str
    snippet: tuple[tuple[str, bool], ...]
    via: str | None = None


class _Span(NamedTuple):
    start: int
    end: int
    mark: int
    via: str | None


def explain(card: Card, marks: tuple[Mark, ...], topics: Mapping[str, str]) -> tuple[Why, ...]:
    """Where `marks` stand in `card`: first the places with most of them, then in the order of a card."""
    found = []
    for place, (field, _) in PLACES.items():
        wanted = [(i, mark) for i, mark in enumerate(marks) if mark.field in ("", field)]
        best = max(
            ((value, spans) for value in texts(card, place, topics) if (spans := list(_spans(value, wanted)))),
            key=lambda one: len({span.mark for span in one[1]}),
            default=None,
        )
        if best:
            value, spans = best
            via = next((span.via for span in spans if span.via), None)
            found.append((-len({span.mark for span in spans}), Why(place, _snippet(value, spans), via)))
    return tuple(why for _, why in sorted(found, key=lambda one: one[0]))


def _spans(value: str, marks: list[tuple[int, Mark]]) -> Iterator[_Span]:
    """Where `marks` stand in `value`."""
    folded = text.fold_in_place(value)
    for i, mark in marks:
        for found in _pattern(mark.steps).finditer(folded):
            words = text.tokens(found[0])
            if len(words) == len(mark.steps) and all(map(_fits, mark.steps, words)):
                via = next((v for v in map(_correction, mark.steps, words) if v), None)
                yield _Span(found.start(), found.end(), i, via)


def _fits(step: Step, word: str) -> bool:
    if not step.stems:
        return word == step.token
    return text.stem(word) in step.stems or (step.prefix and word.startswith(step.token))


def _correction(step: Step, word: str) -> str | None:
    as_typed = (
        not step.stems or text.stem(word) == text.stem(step.token) or (step.prefix and word.startswith(step.token))
    )
    return None if as_typed else f"{step.token} → {word}"


_LETTER = r"[^\W_\u3005-\u3007\u3040-\u30ff\u3400-\u9fff]"
_FORMS: Final[Mapping[str, list[str]]] = {
    word: [rf"\\{command}(?![A-Za-z])" for command, named in text.COMMANDS.items() if named == word]
    + [sign for sign in text.SIGNS if text.SIGNS[sign] == word]
    for word in set(text.COMMANDS.values())
}


@lru_cache(maxsize=256)
def _pattern(steps: tuple[Step, ...]) -> re.Pattern[str]:
    """Finds what may be `steps` in folded text, and some more: words that begin as their stems do."""
    return re.compile(r"[\W_]*?".join(map(_step_pattern, steps)))


def _step_pattern(step: Step) -> str:
    if not step.stems:
        return re.escape(step.token)
    # A stem may differ from its word in the last letters: happi, happy.
    begins = {step.token} | {stem[: max(2, len(stem) - 2)] if len(stem) > 3 else stem[:2] for stem in step.stems}
    words = rf"(?<!{_LETTER})(?:{'|'.join(map(re.escape, sorted(begins)))}){_LETTER}*"
    forms = [form for stem in step.stems for form in _FORMS.get(stem, ())]
    return f"(?:{'|'.join([*forms, words])})"


def _snippet(value: str, spans: list[_Span]) -> tuple[tuple[str, bool], ...]:
    """The part of `value` that has most of the marks, cut between words."""
    spans = sorted(spans)
    start, end = 0, len(value)
    if end > WINDOW:
        first = max(
            spans,
            key=lambda span: (len({s.mark for s in spans if 0 <= s.start - span.start < WINDOW // 2}), -span.start),
        )
        start, end = _window(value, first)
    pieces = [("… ", False)] if start else []
    at = start
    for span in spans:
        if span.start < at or span.end > end:
            continue
        pieces += [(value[at : span.start], False), (value[span.start : span.end], True)]
        at = span.end
    pieces.append((value[at:end], False))
    if end < len(value):
        pieces.append((" …", False))
    return tuple((re.sub(r"\s+", " ", piece), marked) for piece, marked in pieces if piece)


def _window(value: str, first: _Span) -> tuple[int, int]:
    start = max(0, first.start - WINDOW // 3)
    end = min(len(value), max(start + WINDOW, first.end))
    if start and (space := value.find(" ", start, first.start)) >= 0:
        start = space + 1
    if end < len(value) and (space := value.rfind(" ", first.end, end)) >= 0:
        end = space
    return start, end
