"""Why a card was found: the places where the words of a query stand in it, marked in its text as one reads it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, NamedTuple

from kb.card import SECTIONS, Card, readable
from kb.search import text
from kb.search.index import NAMES, PLACES, texts
from kb.search.matching import Mark, Step

WINDOW: Final = 160  # characters of a section that a snippet shows
MARKDOWN: Final = frozenset((*SECTIONS, "summary_zh", "corrections"))


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
    mark: Mark
    via: str | None


def explain(card: Card, marks: tuple[Mark, ...], names: frozenset[str], topics: Mapping[str, str]) -> tuple[Why, ...]:
    """Where `marks` stand in `card`, or `names` are its own: the places with most of them first."""
    found = []
    for place, (field, _) in PLACES.items():
        if wanted := _wanted(marks, field):
            marked = list(_marked(place, texts(card, place, topics), wanted))
            if names and place in NAMES and not marked:
                marked = [
                    (value, [_Span(0, len(value), marks[0], None)])
                    for value in texts(card, place, topics)
                    if text.name(text.tokens(value)) in names
                ]
            if marked:
                value, spans = max(marked, key=lambda one: _different(one[1]))
                via = next((span.via for span in spans if span.via), None)
                found.append((_different(spans), Why(place, _snippet(value, spans), via)))
    return tuple(why for _, why in sorted(found, key=lambda one: -one[0]))


_Judge = Callable[[str], tuple[bool, str | None]]
_Wanted = tuple[tuple[Mark, re.Pattern[str], _Judge], ...]


def _marked(place: str, values: Iterable[str], wanted: _Wanted) -> Iterator[tuple[str, list[_Span]]]:
    """The `values` of a place, as one reads them, in which something wanted stands, and where."""
    for value in values:
        if spans := list(_spans(value, wanted)):
            if place in MARKDOWN and (shown := readable(value).removeprefix("• ")) != value:
                value, spans = shown, list(_spans(shown, wanted))
            if spans:
                yield value, spans


def _different(spans: list[_Span]) -> int:
    return len({span.mark for span in spans})


@lru_cache(maxsize=256)
def _wanted(marks: tuple[Mark, ...], field: str) -> _Wanted:
    """The marks to look for in `field`, with what finds them in folded text, and more: words that begin as they do."""
    wanted = (mark for mark in marks if mark.field in ("", field))
    return tuple((mark, re.compile(r"[\W_]*?".join(map(_pattern, mark.steps))), _judge(mark)) for mark in wanted)


_FORMS: Final[Mapping[str, list[str]]] = {
    word: [rf"\\{command}(?![a-z])" for command, named in text.COMMANDS.items() if named == word and command.islower()]
    + [sign for sign, named in text.SIGNS.items() if named == word]
    for word in set(text.COMMANDS.values())
}


def _pattern(step: Step) -> str:
    if not step.stems:
        return r"\s*".join(map(re.escape, step.token))  # a line may end inside a run of Chinese
    # A stem may differ from its word in the last letters: happi, happy.
    begins = {step.token} | {stem[: max(2, len(stem) - 2)] if len(stem) > 3 else stem[:2] for stem in step.stems}
    letter = "[a-z0-9]" if all(map(str.isascii, begins)) else r"[^\W_]"
    words = rf"(?<!{letter})(?:{'|'.join(map(re.escape, sorted(begins)))}){letter}*"
    return f"(?:{'|'.join([*(form for stem in step.stems for form in _FORMS.get(stem, ())), words])})"


def _spans(value: str, wanted: _Wanted) -> Iterator[_Span]:
    """Where the wanted marks stand in `value`."""
    folded = text.fold_in_place(value)
    for mark, pattern, judge in wanted:
        for found in pattern.finditer(folded):
            fits, via = judge(found[0])
            if fits:
                yield _Span(found.start(), found.end(), mark, via)


def _judge(mark: Mark) -> _Judge:
    """Tells of a folded text whether it is what `mark` stands for, and by which correction; most texts recur."""

    @cache
    def judge(found: str) -> tuple[bool, str | None]:
        words = text.tokens(found)
        fits = len(words) == len(mark.steps) and all(map(_fits, mark.steps, words))
        return fits, next(filter(None, map(_correction, mark.steps, words)), None) if fits else None

    return judge


def _fits(step: Step, word: str) -> bool:
    return not step.stems or _begins(step, word) or text.stem(word) in step.stems


def _correction(step: Step, word: str) -> str | None:
    as_typed = not step.stems or text.stem(word) == text.stem(step.token) or _begins(step, word)
    return None if as_typed else f"{step.token} → {word}"


def _begins(step: Step, word: str) -> bool:
    return step.prefix and word.startswith(step.token)


def _snippet(value: str, spans: list[_Span]) -> tuple[tuple[str, bool], ...]:
    """The part of `value` that has most of the marks, cut between words."""
    spans = sorted(spans, key=lambda span: (span.start, -span.end))
    room = _room(value)
    start, end = _window(value, spans, room) if len(value) > room else (0, len(value))
    pieces = [("… ", False)] if start and not _SENTENCE_END.match(value, start - 2) else []
    at = start
    for span in spans:
        if span.start >= at and span.end <= end:
            pieces += [(value[at : span.start], False), (value[span.start : span.end], True)]
            at = span.end
    pieces.append((f"{value[at:end].rstrip()} …" if end < len(value) else value[at:], False))
    return tuple((re.sub(r"\s+", " ", piece), marked) for piece, marked in pieces if piece)


_SENTENCE_END: Final = re.compile("[.?!] (?:• )?|.[。？！；，]|• ")


def _room(value: str) -> int:
    """How many characters of `value` a snippet shows; Chinese ones are twice as wide."""
    return WINDOW if 4 * sum(map(len, text.CHINESE.findall(value))) < len(value) else WINDOW // 2


def _window(value: str, spans: list[_Span], room: int) -> tuple[int, int]:
    """Start and end of the stretch of about `room` characters with most of the marks, the first one of equals.

    It begins with a sentence, if one begins close before the marks.
    """
    first = max(spans, key=lambda one: _different([span for span in spans if 0 <= span.start - one.start < room // 2]))
    start = max(0, min(first.start - room // 3, len(value) - room))
    end = max(start + room, first.end)
    if start:
        sentence = _SENTENCE_END.search(value, start, first.start)
        start = sentence.end() if sentence else _between_words(value, start)
    return start, max(first.end, _between_words(value, end, -1))


def _between_words(value: str, at: int, step: int = 1) -> int:
    """The nearest place from `at` on, or back with a `step` of -1, that is not inside a word; Chinese may be cut."""
    while 0 < at < len(value) and _INSIDE.match(value, at - 1):
        at += step
    return at


_INSIDE: Final = re.compile(r"[^\s\u3000-\u9fff\uff00-\uffef]{2}")
