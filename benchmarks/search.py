"""How fast search is, and how much of that is ours: every figure beside the bare engine's on the same index.

    python benchmarks/search.py [--sizes 1000 10000 100000] [--million] [--keep FOLDER]

Cards are generated from the words of the shipped cards (their frequencies kept, one card in four partly Chinese), each
with two coined words, so that the vocabulary grows with the library as a real one's does (Heaps' law). Every kind of
query is asked in many different forms, each once, after a warm-up with others; p50 and p95 are over those. The bare
engine is given the query that a person would write for it by hand, and fetches the same stored fields. Single words are
asked in quotes, as the word itself, and while typing, when they may also be the beginning of another.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from tantivy import FieldType, Occur, Query

from kb.card import TOPICS
from kb.library import SHIPPED, Library, LiveLibrary
from kb.search import prepare, search, text
from kb.search.index import FACETS, PLACES, SCHEMA, LibraryIndex, Snapshot, texts
from kb.search.text import stem

SIZES = (1_000, 10_000, 100_000)
ASKED = 200  # queries of each kind
SEED = 7


@dataclass(frozen=True)
class Words:
    """The shipped cards' words, commonest first, with how often each occurs so far (for sampling)."""

    english: Sequence[str]
    english_up_to: Sequence[int]
    chinese: Sequence[str]
    chinese_up_to: Sequence[int]

    def text(self, rng: random.Random, count: int, share_chinese: float) -> str:
        chinese = int(count * share_chinese)
        words = rng.choices(self.english, cum_weights=self.english_up_to, k=count - chinese)
        runs = rng.choices(self.chinese, cum_weights=self.chinese_up_to, k=chinese)
        return " ".join(words) + "".join(runs)

    def coined(self, rng: random.Random) -> str:
        """A word that few cards have: the beginning of one word and the end of another."""
        while True:
            first, second = rng.choice(self.english), rng.choice(self.english)
            word = first[: len(first) // 2 + 1] + second[len(second) // 2 :]
            if stem(word) not in self.stems:
                return word

    @cached_property
    def stems(self) -> frozenset[str]:
        return frozenset(map(stem, self.english))


def shipped_words() -> Words:
    library = Library.open(SHIPPED)
    english: Counter[str] = Counter()
    chinese: Counter[str] = Counter()
    for card in library.cards.values():
        for place in PLACES:
            for found in texts(card, place, library.topic_names):
                for token in text.tokens(found):
                    if text.is_chinese(token):
                        chinese.update(token[i : i + 4] for i in range(0, len(token), 4))
                    else:
                        english[token] += 1
    ordered = [counts.most_common() for counts in (english, chinese)]
    words, up_to = zip(*(zip(*found, strict=True) for found in ordered), strict=True)
    return Words(words[0], list(accumulate(up_to[0])), words[1], list(accumulate(up_to[1])))


def write_library(folder: Path, size: int, words: Words) -> None:
    """`size` cards of about 1.5 kB, a thousand to a folder."""
    rng = random.Random(SEED)
    folder.mkdir(parents=True)
    for i in range(size):
        if i % 1_000 == 0:
            (shelf := folder / f"shelf_{i // 1_000}").mkdir()
        share = 0.4 if rng.random() < 0.25 else 0.0
        tags = ", ".join(json.dumps(word) for word in rng.sample(words.english[100:600], 3))
        sections = "".join(
            f"{name}: |\n  {words.text(rng, count, share)}\n"
            for name, count in (("Key", 40), ("Motivation", 40), ("Methodology", 70), ("Exps", 40), ("Ideas", 30))
        )
        (shelf / f"card_{i}.yaml").write_text(
            f"title: {json.dumps(words.text(rng, 8, share), ensure_ascii=False)}\n"
            f"authors: [Ann {words.coined(rng).title()}]\naliases: [{words.coined(rng)}]\n"
            f"year: {rng.randint(1990, 2026)}\ntopic: {rng.choice(list(TOPICS))}\ntags: [{tags}]\n"
            f"status: {rng.choice(['queued', 'reading', 'read'])}\n{sections}",
            encoding="utf-8",
        )


@dataclass(frozen=True)
class Kind:
    """One kind of query: what a reader types, and the same asked of the bare engine."""

    name: str
    typed: Sequence[str]
    bare: Callable[[str], object]


def kinds(words: Words, snapshot: Snapshot) -> Iterator[Kind]:
    searcher, rng = snapshot.searcher, random.Random(SEED + 1)

    def fetch(query: Query) -> object:
        return [searcher.doc(address).to_dict() for _, address in searcher.search(query, 20).hits]

    def term(word: str, field: str = "anywhere") -> Query:
        return Query.term_query(SCHEMA, field, stem(word))

    def terms(typed: str) -> object:
        return fetch(Query.boolean_query([(Occur.Must, term(word)) for word in typed.split()]))

    def begun(typed: str) -> object:
        begins = Query.regex_query(SCHEMA, "word", f"{typed}.*")
        return fetch(Query.boolean_query([(Occur.Should, term(typed)), (Occur.Should, begins)]))

    def phrase(typed: str) -> object:
        return fetch(Query.phrase_query(SCHEMA, "anywhere", [stem(word) for word in typed.strip('"').split()]))

    def narrowed(typed: str) -> object:
        query = Query.boolean_query(
            [
                (Occur.Must, term(typed.split()[0].removeprefix("method:"), "method")),
                (Occur.Must, Query.range_query(SCHEMA, "year", FieldType.Integer, 2015, 2020)),
            ]
        )
        facets = {name: {"terms": {"field": f"facet_{name}", "size": 1_000}} for name in FACETS}
        return fetch(query), searcher.aggregate(query, facets)

    by_count = {word: searcher.doc_freq("word", word) for word in snapshot.vocabulary.words}
    long = [word for word in by_count if len(word) > 5 and word.isalpha()]
    common = [word for word in long if by_count[word] > searcher.num_docs // 100][:ASKED]
    rare = sampled([word for word in long if 3 <= by_count[word] <= 50], rng)
    mistyped = [swapped(word, rng) for word in sampled(common, rng, 50)]
    yield Kind("rare word", [f'"{word}"' for word in rare], lambda typed: fetch(term(typed.strip('"'))))
    yield Kind("common word", [f'"{word}"' for word in common], lambda typed: fetch(term(typed.strip('"'))))
    yield Kind("rare, typing", rare, begun)
    yield Kind("common, typing", common, begun)
    yield Kind("three words", [" ".join(rng.sample(common[:60], 3)) for _ in range(ASKED)], terms)
    yield Kind("phrase", [f'"{" ".join(rng.sample(common[:20], 2))}"' for _ in range(ASKED)], phrase)
    yield Kind(
        "prefix",
        [word[:4] + "*" for word in sampled(common, rng, 100)],
        lambda typed: fetch(Query.regex_query(SCHEMA, "word", f"{typed[:-1]}.*")),
    )
    yield Kind(
        "typo",
        mistyped,
        lambda typed: fetch(Query.fuzzy_term_query(SCHEMA, "word", typed, distance=2)),
    )
    pairs = list(dict.fromkeys(run[:2] for run in words.chinese if len(run) > 1))[:ASKED]
    yield Kind("Chinese word", pairs, lambda typed: fetch(Query.term_query(SCHEMA, "anywhere", typed)))
    yield Kind("field + facets", [f"method:{word} year:2015..2020" for word in common], narrowed)


def sampled(words: Sequence[str], rng: random.Random, count: int = ASKED) -> list[str]:
    return rng.sample(words, min(count, len(words)))


def swapped(word: str, rng: random.Random) -> str:
    """The word with two neighboring letters swapped."""
    at = rng.randrange(1, len(word) - 2)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def timed(ask: Callable[[str], object], queries: Sequence[str]) -> list[float]:
    """Milliseconds that each query took."""
    taken = []
    for query in queries:
        start = time.perf_counter()
        ask(query)
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def quantiles(taken: list[float]) -> tuple[float, float]:
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]


def bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def look(folder: Path) -> float:
    """Seconds that it takes to ask the system for the state of every file, and nothing else."""
    start = time.perf_counter()
    for shelf in os.scandir(folder):
        for entry in os.scandir(shelf.path):
            entry.stat()
    return time.perf_counter() - start


def cold_open(notes: Path) -> float:
    """Seconds from the start of a fresh process to the first hit."""
    code = (
        "import time; from kb.library import Library; from kb.search import search; "
        f"search(Library.open({str(notes)!r}), 'loss').hits[0]; print(time.time())"
    )
    start = time.time()
    answered = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return float(answered) - start


def measure(size: int, root: Path, words: Words) -> None:
    notes = root / f"notes_{size}"
    if not notes.exists():
        write_library(notes, size, words)
    start = time.perf_counter()
    library = Library.open(notes)
    read = time.perf_counter() - start
    start = time.perf_counter()
    prepare(library)
    build = time.perf_counter() - start
    snapshot = LibraryIndex(library.folders).snapshot(library)
    print(f"\n{size:,} cards")
    print(f"  files read in {read:.2f} s; index built in {build:.2f} s ({size / build:,.0f} cards/s)")
    index_size, cards_size = (bytes_in(Path(os.environ["KB_CACHE"]) / kind) / size for kind in ("search", "cards"))
    print(f"  {index_size:,.0f} bytes a card for the index, {cards_size:,.0f} for the kept cards")
    print(f"  {len(snapshot.vocabulary.words):,} different words")
    print(f"  cold open of a fresh process to first hit {statistics.median(cold_open(notes) for _ in range(5)):.2f} s")

    print(f"  {'':16}{'search, ms':>18}{'bare engine, ms':>20}{'ratio of':>10}{'whole page':>14}")
    print(f"  {'':16}{'p50':>9}{'p95':>9}{'p50':>11}{'p95':>9}{'p50':>10}{'p50, ms':>14}")
    for kind in kinds(words, snapshot):
        with_facets = kind.name == "field + facets"

        def ours(typed: str, with_facets: bool = with_facets) -> object:
            results = search(library, typed)
            return results.facets if with_facets else results

        def page(typed: str) -> object:
            results = search(library, typed)
            return results.facets, [hit.why for hit in results.hits]

        timed(kind.bare, kind.typed[:20])
        timed(ours, kind.typed[:20])
        bare, own, whole = timed(kind.bare, kind.typed), timed(ours, kind.typed), timed(page, kind.typed[:50])
        (bare50, bare95), (own50, own95) = quantiles(bare), quantiles(own)
        print(
            f"  {kind.name:16}{own50:9.3f}{own95:9.3f}{bare50:11.3f}{bare95:9.3f}{own50 / bare50:10.2f}"
            f"{statistics.median(whole):14.2f}"
        )

    card = next(iter(library.files.values()))
    before = card.read_text(encoding="utf-8")
    looks, updates, seen = [], [], []
    for i in range(5):
        card.write_text(f"{before}Notes: visible{i}zz\n", encoding="utf-8")
        start = time.perf_counter()
        library = library.reload()
        assert search(library, f'"visible{i}zz"').total == 1
        updates.append(time.perf_counter() - start)
        looks.append(look(notes))
    rng = random.Random(SEED + 2)
    with LiveLibrary(library) as live:
        for i in range(5):
            time.sleep(rng.random())  # at any moment of its round
            shown = live.snapshot
            card.write_text(f"{before}Notes: seen{i}zz\n", encoding="utf-8")
            start = time.perf_counter()
            while live.snapshot is shown:
                time.sleep(0.01)
            seen.append(time.perf_counter() - start)
    card.write_text(before, encoding="utf-8")
    print(f"  one card changed to visible {statistics.median(updates) * 1e3:.0f} ms, of which", end=" ")
    print(f"a bare look at the files takes {statistics.median(looks) * 1e3:.0f} ms")
    print(f"  an edit seen by a live library after {statistics.median(seen):.2f} s, {max(seen):.2f} s at most")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    asked.add_argument("--million", action="store_true", help="a library of 1,000,000 cards as well")
    asked.add_argument("--keep", type=Path, help="where libraries and index stay for another run")
    given = asked.parse_args()
    root = given.keep or Path(tempfile.mkdtemp(prefix="kb-search-"))
    os.environ["KB_CACHE"] = str(root / "cache")
    words = shipped_words()
    try:
        for size in [*given.sizes, *([1_000_000] if given.million else [])]:
            os.environ["KB_CACHE"] = str(root / f"cache_{size}")
            measure(size, root, words)
    finally:
        if not given.keep:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
