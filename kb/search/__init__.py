"""Search in a library: `search(library, query)` gives hits, best first, each with why it was found.

The engine (tantivy) and its index are behind this package; nothing outside it knows them. `text` folds and cuts what
is searched, `index` keeps the cards in the engine, `matching` asks it, `typos` guesses what was meant, `why` marks it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

from tantivy import Order, SearchResult

from kb.cache import cache_folder
from kb.library import Library
from kb.query import Query, parse
from kb.search.index import FACETS, LibraryIndex, Progress, Snapshot
from kb.search.matching import EXACT, TRUSTED, Plan, corrected, count_words, plan
from kb.search.why import Why, explain

__all__ = ["Hit", "Results", "Why", "prepare", "search"]

FACET_VALUES = 1_000
FEW = 3  # answers; with fewer, any of the words may have been a typo
QUESTION = 4  # words; with so many, cards that have `MOST` of them follow those that have all
MOST = 0.6
SOME = 1 / 4  # of the words, when no card has more


@dataclass  # not frozen: that would take a page of hits half as long again
class Hit:
    """A card that was found; what it costs to say why is spent when that is asked."""

    slug: str
    title: str
    score: float
    _explain: Callable[[str], tuple[Why, ...]] = field(repr=False, compare=False)

    @cached_property
    def why(self) -> tuple[Why, ...]:
        """The places that matched, the most telling first; empty when the query has no words."""
        return self._explain(self.slug)


@dataclass(frozen=True)
class Results:
    """What a query found.

    Attributes:
        query: as it was understood.
        hits: the asked-for stretch of the answers.
        total: how many answers there are.
        notices: what was not understood or had to be done otherwise, for the reader.
        suggestion: the query with its typos mended, when nothing matches it as typed.
        behind: how many cards were added, edited or deleted since the index was written that answered.
    """

    query: Query
    hits: tuple[Hit, ...]
    total: int
    notices: tuple[str, ...]
    suggestion: str | None
    behind: int
    _count: Callable[[], Mapping[str, Mapping[str, int]]] = field(repr=False, compare=False)

    @cached_property
    def facets(self) -> Mapping[str, Mapping[str, int]]:
        """For topic, tag, year, status and demo: value -> how many of the answers have it, most first."""
        return self._count()


def search(
    library: Library,
    query: str | Query,
    *,
    limit: int = 20,
    offset: int = 0,
    verdicts: Mapping[str, bool] | None = None,
) -> Results:
    """The cards that answer `query`, best first; all cards, newest first, for an empty one.

    Args:
        verdicts: for each check that was measured (`demo.check`), whether it holds; what `claim:failing` goes by.
    """
    asked = parse(query) if isinstance(query, str) else query
    snapshot = _snapshot(library)

    def ask(share: float, trusted: float) -> tuple[Plan, SearchResult]:
        made = plan(asked, snapshot, verdicts or {}, share=share, trusted=trusted)
        return made, _ask(snapshot, made, asked.sort, max(limit, 1), offset)

    words = count_words(asked)
    share = MOST if words >= QUESTION and asked.sort == "relevance" else 1.0
    made, result = ask(share, TRUSTED)
    if words > 1 and _count(result) < FEW:
        made, result = ask(share, math.inf)
    if words and not _count(result):
        made, result = ask(SOME, TRUSTED)
    total = _count(result)
    exact = _count(snapshot.searcher.search(made.exact, 1)) if made.exact and total else total
    return Results(
        query=asked,
        hits=_hits(library, snapshot, made, result) if limit else (),
        total=total,
        notices=(*asked.notices, *_notices(snapshot, made, total, exact)),
        suggestion=str(corrected(asked, made.corrections)) if made.corrections and total and not exact else None,
        behind=snapshot.behind,
        _count=lambda: _facets(snapshot, made),
    )


def prepare(library: Library, progress: Progress | None = None) -> None:
    """Brings the index up to date now, so that the next search need not; `progress(done, of)` counts the cards."""
    _snapshot(library, progress)


_snapshots: WeakKeyDictionary[Library, Snapshot] = WeakKeyDictionary()


def _snapshot(library: Library, progress: Progress | None = None) -> Snapshot:
    found = _snapshots.get(library)
    if found is None or found.behind:
        found = _snapshots[library] = _index(library.folders, cache_folder()).snapshot(library, progress)
    return found


@lru_cache(maxsize=8)
def _index(folders: tuple[Path, ...], _cache: Path) -> LibraryIndex:
    return LibraryIndex(folders)


def _ask(snapshot: Snapshot, made: Plan, sort: str, limit: int, offset: int) -> SearchResult:
    if sort == "relevance" and made.marks:
        return snapshot.searcher.search(made.engine, limit, offset=offset)
    by = "-added" if sort == "relevance" else sort
    return snapshot.searcher.search(made.engine, limit, offset=offset, order_by_field=f"order_{by}", order=Order.Asc)


def _hits(library: Library, snapshot: Snapshot, made: Plan, result: SearchResult) -> tuple[Hit, ...]:
    def why(slug: str) -> tuple[Why, ...]:
        return explain(library[slug], made.marks, made.names, library.topic_names)

    hits = []
    for key, address in result.hits:
        card = snapshot.searcher.doc(address)
        score = key if isinstance(key, float) else 0.0
        if made.exact and score > EXACT:
            score -= EXACT
        hits.append(Hit(card["slug"][0], card["heading"][0], score, why))
    # An index that is behind still has the cards that were deleted.
    return tuple(hit for hit in hits if hit.slug in library) if snapshot.behind else tuple(hits)


def _notices(snapshot: Snapshot, made: Plan, total: int, exact: int) -> Iterator[str]:
    if snapshot.behind:
        yield f"The index is being updated; cards whose changes it does not know yet: {snapshot.behind:,}."
    if made.partial and exact < total:
        told = "No card has" if not exact else "One card has" if exact == 1 else f"{exact:,} cards have"
        yield f"{told} all of these words; those that have some of them follow."


def _count(result: SearchResult) -> int:
    return result.count  # type: ignore[attr-defined, no-any-return]  # its stub lacks it


def _facets(snapshot: Snapshot, made: Plan) -> Mapping[str, Mapping[str, int]]:
    wanted = {name: {"terms": {"field": f"facet_{name}", "size": FACET_VALUES}} for name in FACETS}
    counted = snapshot.searcher.aggregate(made.engine, wanted)
    return {name: {bucket["key"]: bucket["doc_count"] for bucket in counted[name]["buckets"]} for name in FACETS}
