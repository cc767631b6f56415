"""The index of a library: derived from its cards, kept in the cache folder, brought up to date file by file.

Every card is one document that carries the version of its file, so the index itself knows what it holds: bringing it
up to date is the difference between two sets of versions, and tantivy's commits make each batch of it whole or absent.
"""

import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import tantivy
from tantivy import Document, Query, SchemaBuilder, Searcher

from kb.cache import derived_folder
from kb.card import SECTIONS, Card
from kb.library import Library
from kb.search import text

if TYPE_CHECKING:
    from kb.search.typos import Vocabulary

# Where a card's words stand, the name of that place in queries, and how many times a word there counts. The weights
# are those of BM25F: a word of weight 3 is indexed three times (Robertson et al., CIKM 2004, sec. 3).
PLACES: Final[Mapping[str, tuple[str, int]]] = {
    "title": ("title", 4),
    "title_zh": ("title", 4),
    "aliases": ("alias", 4),
    "tags": ("tag", 2),
    "topic": ("", 1),
    "authors": ("author", 2),
    "venue": ("venue", 1),
    "summary_zh": ("summary", 1),
    "Key": ("key", 1),
    "Source": ("source", 1),
    "Motivation": ("motivation", 1),
    "Methodology": ("method", 1),
    "Exps": ("exps", 1),
    "Ideas": ("ideas", 1),
    "Notes": ("notes", 1),
    "claims": ("", 1),
    "corrections": ("", 1),
    "links": ("url", 1),
    "slug": ("", 2),
}
NAMES: Final = ("title", "title_zh", "aliases", "slug")
WHOLE: Final = ("topic", "status", "kind", "demo", "links-to", "claim", "has", "tag_value")
FACETS: Final = ("topic", "tag", "year", "status", "demo")
ORDERS: Final = ("title", "year", "-year", "added", "-added")

BEGINNING: Final = 4  # letters; words are also indexed by their beginnings up to this length

BATCH: Final = 50_000  # cards in one commit; more commits would leave more segments to search
PATIENCE: Final = 2.0  # seconds to wait for another process or thread that is writing
_HEAP = 256_000_000  # bytes, used only as far as needed


def texts(card: Card, place: str, topics: Mapping[str, str]) -> tuple[str, ...]:
    """The texts that stand in one of `PLACES` of a card."""
    match place:
        case "topic":
            return (card.topic, topics.get(card.topic, "")) if card.topic else ()
        case "claims":
            return tuple(claim.says for claim in card.claims)
        case "corrections":
            return tuple(part for made in card.corrections for part in (made.said, made.right, made.why) if part)
        case "links":
            return tuple(f"{kind}:{_SCHEME.sub('', link)}" for kind, link in card.links.items())
        case _:
            found = getattr(card, place)
            return found if isinstance(found, tuple) else (found,) if found else ()


_SCHEME = re.compile("^https?://(?:www\\.)?")


def values(card: Card, field: str, topics: Mapping[str, str]) -> tuple[str, ...]:
    """The whole values, folded, that a card has in one of `WHOLE`."""
    match field:
        case "topic":
            found: tuple[str, ...] = texts(card, "topic", topics)
        case "status" | "kind":
            found = (getattr(card, field),)
        case "demo":
            found = card.demos
        case "links-to":
            found = tuple(related.card for related in card.related)
        case "claim":
            found = tuple(claim.check for claim in card.claims if claim.check)
        case "has":
            kept = {"demo": card.demos, "claims": card.claims, "related": card.related, "corrections": card.corrections}
            found = (*(name for name, entries in kept.items() if entries), *card.links)
        case _:
            found = card.tags
    return tuple(whole(value) for value in found)


def whole(value: str) -> str:
    """A value as it is compared as a whole: folded, words joined as in a slug."""
    return "_".join(filter(None, _BETWEEN.split(text.fold(value))))


_BETWEEN = re.compile(r"[\s_-]+")


def _facets(card: Card, facet: str) -> tuple[str, ...]:
    match facet:
        case "tag":
            return card.tags
        case "demo":
            return card.demos
        case _:
            found = getattr(card, facet)
            return () if found is None else (str(found),)


def _orders(card: Card) -> dict[str, str]:
    """For each of `ORDERS` the text that puts the card in its place, ascending; no year or day comes last."""
    title = f"{text.fold(card.title)} {card.slug}"
    day = card.added.toordinal() if card.added else None

    def then_title(number: int | None, descending: bool) -> str:
        return f"{9999999 if number is None else 9999998 - number if descending else number:07} {title}"

    return {
        "title": title,
        "year": then_title(card.year, False),
        "-year": then_title(card.year, True),
        "added": then_title(day, False),
        "-added": then_title(day, True),
    }


def _schema() -> tantivy.Schema:
    builder = SchemaBuilder()
    builder.add_text_field("file", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("version", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("slug", tokenizer_name="raw", index_option="basic", stored=True)
    builder.add_text_field("heading", tokenizer_name="raw", index_option="basic", stored=True)
    builder.add_text_field("anywhere", tokenizer_name="kb")
    builder.add_text_field("word", tokenizer_name="whitespace", index_option="basic")  # unstemmed: typos, prefixes
    builder.add_text_field("name", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("beginning", tokenizer_name="whitespace", index_option="basic")
    for name in dict.fromkeys(name for name, _ in PLACES.values() if name):
        builder.add_text_field(name, tokenizer_name="kb")
    for name in WHOLE:
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for name in ("year", "added"):
        builder.add_integer_field(name, indexed=True, fast=True)
    for name in FACETS:
        builder.add_text_field(f"facet_{name}", tokenizer_name="raw", index_option="basic", fast=True)
    for name in ORDERS:
        builder.add_text_field(f"order_{name}", tokenizer_name="raw", index_option="basic", fast=True)
    return builder.build()


def document(card: Card, version: str, topics: Mapping[str, str]) -> Document:
    """A card in one `version` of its file (as in `Library.versions`), as the index keeps it."""
    made = Document()
    for name, value in {"file": _file(version), "version": version, "slug": card.slug, "heading": card.title}.items():
        made.add_text(name, value)
    words: set[str] = set()
    for place, (field, weight) in PLACES.items():
        for found in texts(card, place, topics):
            tokens = text.tokens(found)
            words.update(token for token in tokens if not text.is_chinese(token))
            spread = text.indexed(tokens)
            if place in NAMES:
                made.add_text("name", text.name(tokens))
            if field:
                made.add_text(field, spread)
            for _ in range(weight):
                made.add_text("anywhere", spread)
    made.add_text("word", " ".join(words))
    made.add_text("beginning", " ".join({word[:length] for word in words for length in range(1, BEGINNING + 1)}))
    for name in WHOLE:
        for value in values(card, name, topics):
            made.add_text(name, value)
    if card.year is not None:
        made.add_integer("year", card.year)
    if card.added:
        made.add_integer("added", card.added.toordinal())
    for name in FACETS:
        for value in _facets(card, name):
            made.add_text(f"facet_{name}", value)
    for name, key in _orders(card).items():
        made.add_text(f"order_{name}", key)
    return made


SCHEMA: Final = _schema()


class Snapshot:
    """The index as it was when a library was brought into it; later writing does not change it.

    Attributes:
        searcher: the engine's view of it.
        behind: how many cards were added, edited or deleted that it does not know of yet, because somebody else writes.
    """

    def __init__(self, searcher: Searcher, behind: int) -> None:
        self.searcher, self.behind = searcher, behind
        self._known: dict[tuple[str, str], int] = {}

    def known(self, term: str, field: str = "anywhere") -> int:
        """How many cards have a term; for a while also counts versions that were replaced."""
        found = self._known.get((field, term))
        if found is None:
            found = self._known[field, term] = self.searcher.doc_freq(field, term)
        return found

    @cached_property
    def vocabulary(self) -> "Vocabulary":
        """All words of the index, unstemmed, without Chinese."""
        from kb.search.typos import Vocabulary  # numpy, which only a typo needs

        return Vocabulary([word for word, _ in self.searcher.terms_with_prefix("word", "")])

    @cached_property
    def linked(self) -> tuple[str, ...]:
        """The slugs, folded, that some card names as related."""
        return tuple(slug for slug, _ in self.searcher.terms_with_prefix("links-to", "", Query.all_query()))


Progress = Callable[[int, int], None]


class LibraryIndex:
    """The index of the cards in some folders; safe to use from several threads and processes."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._lock = threading.Lock()
        self._index, self._mark = _open(folders)
        self._library: Library | None = None  # the one that this process last knew the index to be of

    def snapshot(self, library: Library, progress: Progress | None = None) -> Snapshot:
        """The index, brought up to date with `library`; as it is, when others take long to write into it."""
        if not self._lock.acquire(timeout=PATIENCE):
            return self._as_it_is(library)
        try:
            return self._up_to_date(library, progress)
        except (ValueError, OSError) as error:  # a full disk, a folder that somebody deleted
            logging.getLogger(__name__).warning("The search index is kept in memory: %s", error)
            self._index, self._mark = _open(None)
            return self._up_to_date(library, progress)
        finally:
            self._lock.release()

    def _as_it_is(self, library: Library) -> Snapshot:
        self._index.reload()
        differing = _held(self._index).symmetric_difference(library.versions.values())
        return Snapshot(self._index.searcher(), len({_file(version) for version in differing}))

    def _up_to_date(self, library: Library, progress: Progress | None) -> Snapshot:
        if not self._reloads_as(library):
            writer = self._writer()
            if writer is not None:
                self._write(writer, library, progress)
            if writer is None or not self._reloads_as(library):
                return self._as_it_is(library)
        self._library = library
        return Snapshot(self._index.searcher(), 0)

    def _reloads_as(self, library: Library) -> bool:
        """Whether the index is that of `library`; if so, it has been reloaded, and nobody began to write meanwhile."""
        if self._mark.read() != library.fingerprint:
            return False
        self._index.reload()
        return self._mark.read() == library.fingerprint

    def _write(self, writer: tantivy.IndexWriter, library: Library, progress: Progress | None) -> None:
        """Makes the index that of `library`, and marks it so; a kill on the way leaves an index without a mark."""
        marked = self._mark.read()
        self._mark.write("")
        if self._library and self._library.fingerprint == marked:
            new = {version: slug for slug, version in library.versions_beyond(self._library).items()}
            gone = set(self._library.versions_beyond(library).values())
        else:
            self._index.reload()
            held = _held(self._index)
            new = {version: slug for slug, version in library.versions.items() if version not in held}
            gone = held.difference(library.versions.values())
        for file in {_file(version) for version in gone} - {_file(version) for version in new}:
            writer.delete_documents_by_term("file", file)
        for done, (version, slug) in enumerate(new.items(), start=1):
            writer.delete_documents_by_term("file", _file(version))
            if card := library.cards.get(slug):
                writer.add_document(document(card, version, library.topic_names))
            if done % BATCH == 0:
                writer.commit()
            if progress:
                progress(done, len(new))
        writer.commit()
        self._mark.write(library.fingerprint)
        writer.wait_merging_threads()

    def _writer(self) -> tantivy.IndexWriter | None:
        """The one writer there can be; None when another process keeps it for longer than `PATIENCE`."""
        patient_until = time.monotonic() + PATIENCE
        while True:
            try:
                return self._index.writer(_HEAP, 1)
            except ValueError as error:
                if "LockBusy" not in str(error):
                    raise
                if time.monotonic() > patient_until:
                    return None
                time.sleep(0.02)


def _held(index: tantivy.Index) -> set[str]:
    return {version for version, _ in index.searcher().terms_with_prefix("version", "", Query.all_query())}


def _file(version: str) -> str:
    return version.split("\n", 1)[0]


class _Mark:
    """Says which library (`Library.fingerprint`) the index beside it is of; "" for none."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._text = ""

    def read(self) -> str:
        if self._file:
            self._text = self._file.read_text() if self._file.exists() else ""
        return self._text

    def write(self, text: str) -> None:
        self._text = text
        if self._file:
            self._file.write_text(text)


def _open(folders: tuple[Path, ...] | None) -> tuple[tantivy.Index, _Mark]:
    """The index of these folders, begun again when it cannot be read; in memory for none, or where it must be."""
    index, mark = None, None
    if folders:
        try:
            sources = (Path(source) for source in (__file__, text.__file__))
            place = derived_folder("search", folders, sources, metadata.version("tantivy"), *SECTIONS)
            index, mark = _readable(place), place / "fingerprint"
        except (ValueError, OSError) as error:
            logging.getLogger(__name__).warning("The search index is kept in memory: %s", error)
    index = index or tantivy.Index(SCHEMA)
    index.config_reader("manual")
    index.register_tokenizer("kb", text.analyzer())
    return index, _Mark(mark)


def _readable(place: Path) -> tantivy.Index:
    try:
        return tantivy.Index(SCHEMA, str(place))
    except ValueError:  # damaged: the cards are the truth
        shutil.rmtree(place)
        place.mkdir()
        return tantivy.Index(SCHEMA, str(place))
