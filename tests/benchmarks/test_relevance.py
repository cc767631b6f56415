"""The relevance benchmark: its measures against other implementations, its collections, and what search reaches."""

import importlib.util
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

ROOT = Path(__file__).parent.parent.parent
SPEC = importlib.util.spec_from_file_location("relevance", ROOT / "benchmarks/relevance.py")
relevance = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(relevance)

RANKINGS = st.integers(2, 12).flatmap(
    lambda n: st.tuples(st.permutations(range(n)), st.lists(st.integers(0, 3), min_size=n, max_size=n))
)


@settings(max_examples=100, deadline=None)
@given(RANKINGS)
def test_ndcg_and_average_precision_agree_with_scikit_learn(ranking):
    order, grades = ranking
    found = [f"d{i}" for i in order]
    scores = np.array([[-order.index(i) for i in range(len(grades))]], dtype=float)
    by_document = {f"d{i}": grade for i, grade in enumerate(grades)}
    if not any(grades):
        assert relevance.ndcg(found, by_document) == 0
        return
    assert relevance.ndcg(found, by_document) == pytest.approx(ndcg_score([grades], scores, k=10))
    relevant = {document for document, grade in by_document.items() if grade}
    binary = [grade > 0 for grade in grades]
    assert relevance.average_precision(found, relevant) == pytest.approx(average_precision_score(binary, scores[0]))


def test_recall_counts_as_many_as_fit():
    assert relevance.recall(["a", "b", "c"], ["a", "c"], 1) == 1
    assert relevance.recall(["a", "b", "c"], ["a", "c"], 2) == 0.5
    assert relevance.recall(["b"], ["a", "c"], 5) == 0
    assert relevance.reciprocal_rank(["b", "c"], ["a", "c"]) == 0.5
    assert relevance.reciprocal_rank(["b"], ["a"]) == 0


@pytest.mark.parametrize("form", ["beir", "trec"])
@pytest.mark.usefixtures("cache")  # puts back what the benchmark sets
def test_a_collection_is_read_and_its_figures_are_those_of_its_ranking(form, tmp_path, capsys):
    corpus = {"x": "apples and pears", "y": "apples apples apples", "z": "nothing of that"}
    lines = [json.dumps({"_id": key, "title": "", "text": text}) for key, text in corpus.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "An apple?"}\n{"_id": "unjudged", "text": "pears"}')
    if form == "beir":
        (tmp_path / "qrels").mkdir()
        (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tx\t1\n")
    else:
        (tmp_path / "qrels.txt").write_text("q 0 x 1\nq 0 z 0\n")
    relevance.ask_collection(tmp_path)
    # y has the word three times in three words, so x stands second: nDCG is 1 / log2(3), average precision 1 / 2.
    printed = capsys.readouterr().out
    assert "3 documents, 1 queries" in printed
    assert f"nDCG@10 {1 / math.log2(3):.3f}, MAP 0.500" in printed


def test_the_questions_are_as_many_and_as_mixed_as_they_should_be():
    kinds = yaml.safe_load(relevance.QUESTIONS.read_text(encoding="utf-8"))
    sizes = {kind: len(questions) for kind, questions in kinds.items()}
    assert sum(sizes.values()) >= 120
    assert min(sizes["chinese"], sizes["typo"]) >= sum(sizes.values()) // 3
    asked = sorted(question["ask"] for questions in kinds.values() for question in questions)
    assert all(first != second for first, second in pairwise(asked))


def test_the_shipped_cards_are_found_among_the_first_five(capsys):
    relevance.ask_questions(show_misses=True)
    printed = capsys.readouterr().out
    recall_at_5 = float(printed.splitlines()[-1].split()[3])
    assert recall_at_5 >= 0.97, printed
