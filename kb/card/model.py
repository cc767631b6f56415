"""What a card is: its fields and the rules that each one keeps.

The rules hold for every `Card`, from a file or made in Python; a broken one raises pydantic's `ValidationError`, whose
errors of type "card" carry a `message` and a `mend` in their context.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from rapidfuzz import fuzz, process

SECTIONS: Final = ("Key", "Source", "Motivation", "Methodology", "Exps", "Ideas", "Notes")

TOPICS: Final[Mapping[str, str]] = {
    "sampling": "采样",
    "augmentation": "数据增强",
    "training": "训练技巧",
    "losses": "损失函数",
    "normalization": "归一化",
    "architecture": "网络结构",
    "compression": "模型压缩",
    "representation": "表示学习",
    "generative": "生成模型",
    "architecture_search": "结构搜索",
    "meta_learning": "元学习",
    "detection": "目标检测",
}

YEARS: Final = (1600, 2100)
SLUG: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
CHECK: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*\.[a-z_][a-z0-9_]*")
ARXIV: Final = re.compile(r"\d\d(0[1-9]|1[0-2])\.\d{4,5}(v\d+)?|[a-z-]+(\.[A-Z]{2})?/\d{7}(v\d+)?")
DOI: Final = re.compile(r"10\.\d{4,9}/\S+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LEADING_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, case aside; None when none is near."""
    found = process.extractOne(word, list(known), scorer=fuzz.ratio, processor=str.casefold, score_cutoff=70)
    return found[0] if found else None


def _broken(message: str, mend: str) -> PydanticCustomError:
    return PydanticCustomError("card", "{message} {mend}", {"message": message, "mend": mend})


def _text(value: str) -> str:
    """Several lines: line ends as \\n, no blank lines around."""
    value = value.replace("\r\n", "\n")
    if found := _CONTROL.search(value):
        raise _broken(
            f"the control character U+{ord(found[0]):04X} stands in this text.",
            "delete it; LaTeX in double quotes loses its backslashes, so use single quotes or a literal block (|).",
        )
    return _LEADING_BLANK_LINES.sub("", value).rstrip()


def _line(value: str) -> str:
    """One line: every run of white space is one space."""
    return " ".join(_text(value).split())


def _word(value: str) -> str:
    if not (line := _line(value)):
        raise _broken("this is empty.", "write something here or delete the entry.")
    return line


def _slug(value: str) -> str:
    if not SLUG.fullmatch(value):
        raise _broken(
            f"{value!r} is not a slug: small letters, digits and single underscores, such as label_smoothing.",
            f"write {slugified(value) or 'a name in snake_case'}.",
        )
    return value


def slugified(name: str) -> str:
    """The slug nearest to a name, possibly empty."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _check(value: str) -> str:
    if not CHECK.fullmatch(value):
        raise _broken(
            f"{value!r} does not name a check, which is a demo's slug, a dot and the check's name.",
            "write it like gumbel_softmax.one_hot_limit.",
        )
    return value


def _day(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise _broken(f"{value!r} is not a day of the calendar.", "write year-month-day, such as 2026-11-21.") from None


def _year(value: int) -> int:
    first, last = YEARS
    if not first <= value <= last:
        raise _broken(f"{value} is not a year between {first} and {last}.", "write the year in four digits.")
    return value


def _link(name: str, value: str) -> PydanticCustomError | None:
    if name == "arxiv":
        if not ARXIV.fullmatch(value):
            found = ARXIV.search(value)
            return _broken(
                f"{value!r} is not an arXiv id.",
                f'write arxiv: "{found[0]}".'
                if found
                else 'write the id alone, in quotes, such as arxiv: "1611.01144".',
            )
    elif name == "doi":
        if not DOI.fullmatch(value):
            found = DOI.search(value)
            return _broken(
                f"{value!r} is not a DOI.",
                f"write doi: {found[0]}." if found else "write the DOI alone, such as doi: 10.1109/5.771073.",
            )
    elif not _is_web_address(value):
        bare = "://" not in value and re.match(r"[\w-]+(\.[\w-]+)+(/|$)", value)
        return _broken(
            f"{value!r} is not an address on the web: it starts with neither https:// nor http://.",
            f"write {name}: https://{value}." if bare else "write the whole address, starting with https://.",
        )
    return None


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.netloc) and not re.search(r"\s", value)


def _links(links: Mapping[str, str]) -> Mapping[str, str]:
    broken = [
        InitErrorDetails(type=error, loc=(name,), input=value)
        for name, value in links.items()
        if (error := _link(name, value))
    ]
    if broken:
        raise ValidationError.from_exception_data("links", broken)
    return links


def _distinct(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _unknown_only(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    if taken := [name for name in FIELDS if name in extra]:
        raise _broken(f"{taken[0]} is a field of a card.", "set the field itself.")
    return extra


Text = Annotated[str, AfterValidator(_text)]
Line = Annotated[str, AfterValidator(_line)]
Word = Annotated[str, AfterValidator(_word), Field(json_schema_extra={"minLength": 1})]
Words = Annotated[tuple[Word, ...], AfterValidator(_distinct)]
Slug = Annotated[str, AfterValidator(_slug), Field(json_schema_extra={"pattern": f"^{SLUG.pattern}$"})]
Check = Annotated[str, AfterValidator(_check), Field(json_schema_extra={"pattern": f"^{CHECK.pattern}$"})]
Year = Annotated[
    int,
    Strict(),
    AfterValidator(_year),
    Field(json_schema_extra={"minimum": YEARS[0], "maximum": YEARS[1]}),
]
Day = Annotated[date, Strict(), BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]


class _Entry(BaseModel):
    # Unknown keys are kept, as a card keeps its own in `extra`.
    model_config = ConfigDict(frozen=True, extra="allow")


class Related(_Entry):
    """Another card and what it has to do with this one."""

    card: Slug = Field(description="The other card's slug.")
    why: Line = Field("", description="What the two have to do with each other.")


class Claim(_Entry):
    """A sentence that can be wrong, and the check that measures it."""

    says: Word = Field(description="The claim, in one sentence.")
    check: Check | None = Field(None, description="The check that measures it: demo_slug.check_name.")


class Correction(_Entry):
    """What an earlier note said, what is right, and why."""

    said: Word = Field(description="What an earlier note said.")
    right: Word = Field(description="What is right.")
    why: Line = Field("", description="How we know.")


class Card(BaseModel):
    """A note on a paper, a method or a day. Only the slug and the title are required.

    One-line fields hold no line breaks or runs of spaces; the sections and `summary_zh` are Markdown with LaTeX.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: Slug
    title: Word = Field(description="The title, as the paper prints it.")
    title_zh: Line = Field("", description="The title in Chinese.")
    kind: Literal["paper", "method", "journal"] = Field("paper", description="What the note is about.")
    authors: tuple[Word, ...] = Field((), description="The full list of authors.")
    year: Year | None = Field(None, description="The year of publication.")
    venue: Line = Field("", description="Where it was published, such as ICLR 2017.")
    topic: Line | None = Field(None, description="The shelf that the card stands on.")
    tags: Words = Field((), description="Free words to find it by.")
    aliases: Words = Field((), description="Other names, in any language.")
    status: Literal["queued", "reading", "read"] = Field("queued", description="How far the reader is.")
    added: Day | None = Field(None, description="The day the note was written: year-month-day.")
    links: Annotated[Mapping[str, str], AfterValidator(_links)] = Field(
        {}, description="An arXiv id, a DOI, and web addresses under any name (code, url, ...)."
    )
    demos: Annotated[tuple[Slug, ...], AfterValidator(_distinct)] = Field(
        (), description="Slugs of demos that show it."
    )
    related: tuple[Related, ...] = Field((), description="Other cards, and why.")
    claims: tuple[Claim, ...] = Field((), description="Sentences that a check can measure.")
    corrections: tuple[Correction, ...] = Field((), description="What an earlier note had wrong.")
    unverified: Words = Field((), description="Names of fields that could not be confirmed.")
    summary_zh: Text = Field("", description="A summary in Chinese, two or three sentences.")
    Key: Text = Field("", description="The one idea to take away.")
    Source: Text = Field("", description="Who, where and when.")
    Motivation: Text = Field("", description="What was missing before.")
    Methodology: Text = Field("", description="How it works, with formulas.")
    Exps: Text = Field("", description="What was measured, and what came out.")
    Ideas: Text = Field("", description="What one could do with it.")
    Notes: Text = Field("", description="Anything that fits none of the six.")
    extra: Annotated[Mapping[str, Any], AfterValidator(_unknown_only)] = Field(
        {}, description="Keys that the program does not know, as they stand in the file."
    )

    @property
    def sections(self) -> Mapping[str, str]:
        """The sections that hold something, in the template's order."""
        return {name: text for name in SECTIONS if (text := getattr(self, name))}


FIELDS: Final = tuple(name for name in Card.model_fields if name not in ("slug", "extra"))
