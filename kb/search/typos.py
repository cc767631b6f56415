"""Words of the index that a mistyped word may stand for."""

from collections.abc import Iterable

from rapidfuzz import process
from rapidfuzz.distance import OSA

MOST = 8
TRUSTED = 3  # a word that this many cards contain is spelled as meant


def neighbors(word: str, vocabulary: Iterable[str]) -> tuple[str, ...]:
    """The nearest words of `vocabulary`, `MOST` at most, in its order among equally near ones.

    Near is one edit for a word of up to 5 letters and two for a longer one; an edit inserts, deletes or replaces a
    letter or swaps two neighbors (optimal string alignment). Words of one or two letters have no neighbors.
    """
    if len(word) < 3 or word.isdigit():
        return ()
    edits = 1 if len(word) <= 5 else 2
    found = process.extract(word, vocabulary, scorer=OSA.distance, score_cutoff=edits, limit=None)  # type: ignore[arg-type]
    near = sorted((distance, place, other) for other, distance, place in found if distance)
    return tuple(other for _, _, other in near[:MOST])
