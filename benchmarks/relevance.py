"""How well search finds: a set of questions over the shipped cards, or any collection in the TREC or BEIR form.

    python benchmarks/relevance.py [--misses]
    python benchmarks/relevance.py --collection FOLDER

The questions (benchmarks/questions.yaml) name the cards that answer them; one whose cards are not in the library is
skipped. Printed are recall at 1 and at 5 (the share of those cards among the first 1 or 5, of as many as fit there) and
the mean reciprocal rank of the first of them.

A collection has `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and `qrels/test.tsv`, or the
TREC form of judgments, `qrels*` with lines of `query 0 document grade`. Printed are nDCG at 10 and MAP. A collection's
queries are sentences, so they are asked for any of their words, as published BM25 figures are.
"""

import argparse
import json
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean

import yaml

from kb.library import SHIPPED, Library
from kb.search import search

QUESTIONS = Path(__file__).with_name("questions.yaml")


def recall(found: Sequence[str], wanted: Sequence[str], k: int) -> float:
    """The share of `wanted` among the first `k` found, of as many as fit there."""
    return len(set(found[:k]) & set(wanted)) / min(k, len(wanted))


def reciprocal_rank(found: Sequence[str], wanted: Iterable[str]) -> float:
    return next((1 / rank for rank, slug in enumerate(found, start=1) if slug in wanted), 0.0)


def ndcg(found: Sequence[str], grades: Mapping[str, int], k: int = 10) -> float:
    """Normalized discounted cumulative gain at `k`, with the grade as gain and log2(rank + 1) as discount."""

    def gain(gained: Iterable[int]) -> float:
        return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(gained, start=1))

    best = gain(sorted(grades.values(), reverse=True)[:k])
    return gain(grades.get(document, 0) for document in found[:k]) / best if best else 0.0


def average_precision(found: Sequence[str], relevant: set[str]) -> float:
    ranks = [rank for rank, document in enumerate(found, start=1) if document in relevant]
    return sum(hit / rank for hit, rank in enumerate(ranks, start=1)) / len(relevant)


def ask_questions(show_misses: bool) -> None:
    library = Library.open(SHIPPED)
    kinds = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))
    print(f"{len(library)} cards")
    print(f"{'':10}{'questions':>11}{'recall@1':>10}{'recall@5':>10}{'MRR':>8}{'skipped':>9}")
    every: list[tuple[float, float, float]] = []
    for kind, questions in kinds.items():
        asked = [question for question in questions if set(question["cards"]) <= set(library)]
        scores = []
        for question in asked:
            found = [hit.slug for hit in search(library, question["ask"], limit=50).hits]
            wanted = question["cards"]
            scores.append((recall(found, wanted, 1), recall(found, wanted, 5), reciprocal_rank(found, wanted)))
            if show_misses and scores[-1][1] < 1:
                print(f"  {question['ask']!r}: wanted {', '.join(wanted)}; found {', '.join(found[:5]) or 'nothing'}")
        report(kind, scores, len(questions) - len(asked))
        every += scores
    report("all", every, sum(map(len, kinds.values())) - len(every))


def report(name: str, scores: Sequence[tuple[float, float, float]], skipped: int) -> None:
    at_1, at_5, mrr = (mean(column) for column in zip(*scores, strict=True)) if scores else (0.0, 0.0, 0.0)
    print(f"{name:10}{len(scores):11}{at_1:10.3f}{at_5:10.3f}{mrr:8.3f}{skipped:9}")


def ask_collection(folder: Path) -> None:
    judged = judgments(folder)
    queries = {line["_id"]: line["text"] for line in lines(folder / "queries.jsonl") if line["_id"] in judged}
    with tempfile.TemporaryDirectory(prefix="kb-collection-") as scratch:
        os.environ["KB_CACHE"] = f"{scratch}/cache"
        documents = write_cards(folder / "corpus.jsonl", Path(scratch) / "notes")
        library = Library.open(Path(scratch) / "notes")
        gains, precisions = [], []
        for query, text in queries.items():
            found = [documents[hit.slug] for hit in search(library, any_word(text), limit=1_000).hits]
            gains.append(ndcg(found, judged[query]))
            relevant = {document for document, grade in judged[query].items() if grade > 0}
            if relevant:
                precisions.append(average_precision(found, relevant))
    print(f"{len(documents):,} documents, {len(queries):,} queries")
    print(f"nDCG@10 {mean(gains):.3f}, MAP {mean(precisions):.3f}")


def any_word(text: str) -> str:
    """A query for any of the words of a sentence."""
    words = [word for word in (word.strip(".,;:?!()[]\"'*-") for word in text.split()) if word]
    return " OR ".join(f'"{word}"' for word in words if '"' not in word)


def lines(file: Path) -> Iterable[dict[str, str]]:
    with file.open(encoding="utf-8") as text:
        yield from map(json.loads, text)


def judgments(folder: Path) -> dict[str, dict[str, int]]:
    """query -> document -> grade, from BEIR's tab-separated file or TREC's."""
    file = next(file for file in [folder / "qrels/test.tsv", *sorted(folder.glob("qrels*"))] if file.is_file())
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    for line in file.read_text(encoding="utf-8").splitlines():
        query, *_, document, grade = line.split()
        if grade.lstrip("-").isdigit():
            judged[query][document] = int(grade)
    return judged


def write_cards(corpus: Path, folder: Path) -> dict[str, str]:
    """One card a document; slug -> document."""
    folder.mkdir()
    documents = {}
    for i, document in enumerate(lines(corpus)):
        documents[f"document_{i}"] = document["_id"]
        card = {"title": document.get("title") or "untitled", "Notes": document["text"] or "empty"}
        (folder / f"document_{i}.yaml").write_text(yaml.safe_dump(card, allow_unicode=True), encoding="utf-8")
    return documents


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--collection", type=Path, help="a folder with corpus, queries and judgments")
    asked.add_argument("--misses", action="store_true", help="print the questions whose cards were not all found")
    given = asked.parse_args()
    if given.collection:
        ask_collection(given.collection)
    else:
        ask_questions(given.misses)


if __name__ == "__main__":
    main()
