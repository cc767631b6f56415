"""The search language as a value: `parse` reads what a person types, `str` writes it back.

`EXAMPLES` shows the language. Words are looked for in `TEXT_FIELDS`; `topic:`, `demo:`, `links-to:` and the fields in
`CHOICES` hold whole values, and `year:` and `added:` (days, months or years) take ranges. `SYNONYMS` are other names of
fields; what they may be sorted by stands in `SORTS`.

Reading never fails: what is not understood is searched as words, and `Query.notices` says so. The last word may be
unfinished, so it is also read as the beginning of one, unless it stands in quotes.
"""

import re
import unicodedata
from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, date
from typing import Final, TypeVar

from kb.card import nearest

# What can be typed, and in Markdown what it means.
EXAMPLES: Final = {
    "gumbel softmax": "both words",
    "mixup OR cutmix": "either",
    "-label": "not this one",
    '"straight through"': "in this order",
    "quant*": "any ending",
    "(gan OR vae) loss": "groups",
    "key:temperature": "in one section",
    'author:"eric jang"': "in one field",
    "year:2019..2021": "or `>2018`",
    "has:demo": "cards with a demo",
    "is:orphan": "related to no card",
    "claim:failing": "what fails here",
    "links-to:mixup": "names mixup",
    "sort:-year": "newest first",
    "对比学习 loss": "both languages",
}
TEXT_FIELDS: Final = (
    "title",
    "alias",
    "author",
    "tag",
    "venue",
    "summary",
    "key",
    "source",
    "motivation",
    "method",
    "exps",
    "ideas",
    "notes",
    "url",
)
CHOICES: Final = {
    "status": ("queued", "reading", "read"),
    "kind": ("paper", "method", "journal"),
    "has": ("demo", "code", "claims", "arxiv", "doi", "related", "corrections"),
    "is": ("orphan",),
    "claim": ("failing", "holding", "unmeasured"),
}
RANGE_FIELDS: Final = ("year", "added")
FIELDS: Final = (*TEXT_FIELDS, *CHOICES, *RANGE_FIELDS, "topic", "demo", "links-to")
SYNONYMS: Final = {
    "methodology": "method",
    "experiments": "exps",
    "results": "exps",
    "idea": "ideas",
    "note": "notes",
    "authors": "author",
    "by": "author",
    "aliases": "alias",
    "tags": "tag",
    "demos": "demo",
    "claims": "claim",
    "date": "added",
    "links": "links-to",
    "arxiv": "url",
    "doi": "url",
}
SORTS: Final = ("relevance", "title", "year", "-year", "added", "-added")

LONGEST: Final = 2_000  # characters; far more than anybody types
DEEPEST: Final = 40  # parentheses within parentheses


@dataclass(frozen=True)
class Word:
    """A word, or a run of Chinese; with `prefix`, the beginning of one. `field` is empty for anywhere."""

    text: str
    field: str = ""
    prefix: bool = False

    def __str__(self) -> str:
        return f"{_named(self.field)}{self.text}{'*' if self.prefix else ''}"


@dataclass(frozen=True)
class Phrase:
    """Words in this order; in `tag`, `topic`, `demo` and the like, the whole value."""

    text: str
    field: str = ""

    def __str__(self) -> str:
        return f'{_named(self.field)}"{self.text}"'


@dataclass(frozen=True)
class Range:
    """Years (int) or days (date) from `low` to `high`, both included; None leaves an end open."""

    field: str
    low: int | date | None
    high: int | date | None

    def __str__(self) -> str:
        low, high = ("" if end is None else str(end) for end in (self.low, self.high))
        return f"{_named(self.field)}{low}" if low == high else f"{_named(self.field)}{low}..{high}"


@dataclass(frozen=True)
class Not:
    """Whatever does not match `part`."""

    part: "Node"

    def __str__(self) -> str:
        alone = isinstance(self.part, Word | Phrase | Range) and not str(self.part).startswith("-")
        return f"-{self.part}" if alone else f"-({self.part})"


@dataclass(frozen=True)
class And:
    """What matches every one of `parts`: two or more, none of them an And."""

    parts: tuple["Node", ...]

    def __str__(self) -> str:
        return " ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Or:
    """What matches any of `parts`: two or more, none of them an Or."""

    parts: tuple["Node", ...]

    def __str__(self) -> str:
        return " OR ".join(map(str, self.parts))


Leaf = Word | Phrase | Range
Node = Leaf | Not | And | Or


@dataclass(frozen=True)
class Query:
    """What to find (`root`, None for every card) and in which order (`sort`, one of `SORTS`)."""

    root: Node | None = None
    sort: str = "relevance"
    notices: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        parts = ["" if self.root is None else str(self.root), "" if self.sort == "relevance" else f"sort:{self.sort}"]
        # A sort at the end belongs to the whole query, so an Or before it needs no parentheses.
        return " ".join(filter(None, parts))

    def narrowed(self, field: str, values: Iterable[str]) -> "Query":
        """This query, of whose answers those remain that have one of `values` in `field`; all of them for none."""
        wanted = [leaf for value in values if (leaf := _Reader("").leaf(field, value, Phrase))]
        if not wanted:
            return self
        parts = [] if self.root is None else [self.root]
        return replace(self, root=_all_of([*parts, _any_of(wanted)]))


def parse(text: str) -> Query:
    """What `text` asks for. Full-width letters, digits and signs count as their plain forms; never raises."""
    return _Reader(text).query()


def leaves(node: Node | None) -> Iterator[Leaf]:
    """The words, phrases and ranges that are asked for, in order; not those that are excluded."""
    match node:
        case Word() | Phrase() | Range():
            yield node
        case And(parts) | Or(parts):
            for part in parts:
                yield from leaves(part)


def _named(field: str) -> str:
    return f"{field}:" if field else ""


def _all_of(parts: Iterable[Node | None]) -> Node | None:
    return _joined(And, parts)


def _any_of(parts: Iterable[Node | None]) -> Node | None:
    return _joined(Or, parts)


def _joined(kind: type[And] | type[Or], parts: Iterable[Node | None]) -> Node | None:
    flat: list[Node] = []
    for part in parts:
        if isinstance(part, kind):
            flat += part.parts
        elif part:
            flat.append(part)
    return kind(tuple(flat)) if len(flat) > 1 else next(iter(flat), None)


_QUOTES = str.maketrans(dict.fromkeys("“”„«»「」『』《》〈〉", '"'))
# An address, which has a dot, as it stands on a card: that of a paper is its identifier, in any version.
_ADDRESSES = (
    (re.compile(r"https?://(?:www\.)?"), ""),
    (re.compile(r"\b(?:export\.)?arxiv\.org/(?:abs|pdf|html)/"), "arxiv:"),
    (re.compile(r"\b(?:dx\.)?doi\.org/"), "doi:"),
    (re.compile(r"\b([0-9]{4}\.[0-9]{4,5})(?:v[0-9]+)?(?:\.pdf)?\b"), r"\1"),
)
_TOKEN = re.compile(
    r"""
    "(?P<phrase>[^"]*)(?P<closed>"?)
    | (?P<sign>[()] | -(?=[^\s)-]))
    | (?P<word>[^\s"()]+)
    """,
    re.VERBOSE,
)


class _Reader:
    """Reads one text by recursive descent over its tokens: words, phrases, and the signs ( ) and -."""

    def __init__(self, text: str) -> None:
        self.notices: list[str] = []
        self.depth = 0
        self.sort = "relevance"
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
        if len(text) > LONGEST:
            self.notice(f"only the first {LONGEST:,} characters were read")
            text = text[:LONGEST]
        if "." in text:
            for address, short in _ADDRESSES:
                text = address.sub(short, text)
        self.tokens = list(_TOKEN.finditer(text))
        self.at = 0

    def query(self) -> Query:
        parts = []
        while self.at < len(self.tokens):
            parts.append(self.any_of(""))
            if self.take(")"):
                self.notice("a ) closes nothing and was passed over")
        return Query(_all_of(parts), self.sort, tuple(dict.fromkeys(self.notices)))

    def notice(self, told: str) -> None:
        self.notices.append(f"{told[0].upper()}{told[1:]}{'?' if 'did you mean' in told else '.'}")

    def sees(self, *texts: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at][0] in texts

    def take(self, text: str) -> bool:
        """Steps over the token `text` if it is the next one."""
        seen = self.sees(text)
        self.at += seen
        return seen

    def any_of(self, field: str) -> Node | None:
        parts = [self.all_of(field)]
        while self.take("OR"):
            parts.append(self.all_of(field))
        if len(parts) > 1 and None in parts:
            self.notice("OR stands between two things; here one is missing")
        return _any_of(parts)

    def all_of(self, field: str) -> Node | None:
        parts = []
        while self.at < len(self.tokens) and not self.sees(")", "OR"):
            parts.append(self.one(field))
        return _all_of(parts)

    def one(self, field: str) -> Node | None:
        """What the next token begins: an exclusion, a group, a phrase, or a word with or without its field."""
        token = self.tokens[self.at]
        self.at += 1
        if token["sign"] == "-":
            part = self.one(field)
            return Not(part) if part else None
        if token["sign"] == "(":
            return self.group(field)
        if token["phrase"] is not None:
            if not token["closed"]:
                self.notice("a quote is not closed; it was taken to reach to the end")
            return self.leaf(field, " ".join(token["phrase"].split()), Phrase)
        typed, colon, text = token[0].partition(":")
        adjacent = self.at < len(self.tokens) and self.tokens[self.at].start() == token.end()
        if (
            colon
            and not text.startswith("//")
            and (text or (adjacent and not self.sees(")")))
            and (name := self.field(typed))
        ):
            return self.leaf(name, text, Word) if text else self.one(name)
        return self.leaf(field, "or" if token[0] == "OR" else token[0], Word)

    def group(self, field: str) -> Node | None:
        if self.depth == DEEPEST:
            self.notice(f"parentheses more than {DEEPEST} deep were passed over")
            return None
        self.depth += 1
        found = self.any_of(field)
        self.depth -= 1
        if not self.take(")"):
            self.notice("a ( is not closed; it was taken to reach to the end")
        return found

    def field(self, typed: str) -> str:
        """The field of this name; "" when there is none."""
        name = typed.lower()
        name = SYNONYMS.get(name, name)
        if name in FIELDS or name == "sort":
            return name
        close = nearest(name, (*FIELDS, *SYNONYMS, "sort"))
        self.notice(f"there is no field {typed}:, searched as a word" + (f"; did you mean {close}:" if close else ""))
        return ""

    def leaf(self, field: str, text: str, kind: type[Word] | type[Phrase]) -> Leaf | None:
        if not text:
            return None
        if field == "sort":
            self.sort_by(text)
            return None
        if field in RANGE_FIELDS:
            return self.range(field, text)
        if field in CHOICES and text.lower() not in CHOICES[field]:
            return self.misread(field, text, nearest(text, CHOICES[field]) or f"one of {', '.join(CHOICES[field])}")
        if kind is Phrase:
            return Phrase(text, field)
        bare = text.rstrip("*")
        return Word(bare, field, prefix=bare != text) if bare else Word(text, field)

    def sort_by(self, text: str) -> None:
        if text.lower() in SORTS:
            self.sort = text.lower()
        else:
            self.notice(f"results cannot be sorted by {text}; did you mean one of {', '.join(SORTS)}")

    def range(self, field: str, text: str) -> Leaf:
        found = _ends(text, _years) if field == "year" else _ends(text, _days)
        if found is None:
            example = "2019..2021, >2018 or 2020" if field == "year" else "2026-01..2026-06, >2025 or 2026-11-21"
            return self.misread(field, text, f"something like {example}")
        return Range(field, *found)

    def misread(self, field: str, text: str, meant: str) -> Phrase:
        self.notice(f"after {field}: {text} was searched as words; did you mean {meant}")
        return Phrase(text)


End = TypeVar("End", int, date)


def _ends(text: str, read: Callable[[str], tuple[End, End] | None]) -> tuple[End | None, End | None] | None:
    """The ends of `2019`, `2019..2021`, `2019..`, `>2018`, `<=2020`; None when it is none of these.

    `read` turns one year or day into the first and the last one that it stands for.
    """
    if found := re.fullmatch(r"([<>])(=?)(.+)", text):
        span = read(found[3])
        if span is None:
            return None
        if found[1] == ">":
            return (span[0] if found[2] else _moved(span[1], 1)), None
        return None, (span[1] if found[2] else _moved(span[0], -1))
    low, dots, high = text.partition("..")
    first, last = read(low), read(high if dots else low)
    if (low and not first) or (high and not last) or not (first or last):
        return None
    if first and last and first > last:
        first, last = last, first
    return first and first[0], last and last[1]


def _moved(end: End, step: int) -> End:
    """The next year or day, or the one before; the calendar's own ends stay."""
    if isinstance(end, date):
        return date.fromordinal(min(max(end.toordinal() + step, 1), date.max.toordinal()))
    return min(max(end + step, 0), MAXYEAR)


def _years(text: str) -> tuple[int, int] | None:
    return (int(text), int(text)) if re.fullmatch(r"[0-9]{1,4}", text) else None


def _days(text: str) -> tuple[date, date] | None:
    """The first and last day of a year, a month or a day, such as 2026, 2026-11, 2026-11-21."""
    found = re.fullmatch(r"([0-9]{4})(?:-([0-9]{1,2}))?(?:-([0-9]{1,2}))?", text)
    if not found:
        return None
    year, month, day = (int(number) if number else 0 for number in found.groups())
    try:
        first = date(year, month or 1, day or 1)
        return first, date(year, month or 12, day or monthrange(year, month or 12)[1])
    except ValueError:
        return None
