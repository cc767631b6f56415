"""Words of the index that a mistyped word may stand for."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from rapidfuzz import process
from rapidfuzz.distance import OSA

MOST: Final = 8


class Vocabulary:
    """Words, the commonest first."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self._lengths = np.fromiter(map(len, words), np.int32, len(words))
        self._letters = _letters(words, self._lengths)

    def neighbors(self, word: str) -> Mapping[str, int]:
        """The nearest words and how many edits away they are, `MOST` at most, the commonest first of equally near ones.

        Near is one edit for a word of up to 5 letters and two for a longer one; an edit inserts, deletes or replaces
        a letter or swaps two neighbors (optimal string alignment). Words of one or two letters have no neighbors.
        """
        if len(word) < 3 or word.isdigit():
            return {}
        edits = 1 if len(word) <= 5 else 2
        found = process.extract(word, self._alike(word, edits), scorer=OSA.distance, score_cutoff=edits, limit=None)
        near = sorted((distance, place, other) for other, distance, place in found if distance)
        return {other: int(distance) for distance, _, other in near[:MOST]}

    def _alike(self, word: str, edits: int) -> list[str]:
        """The words that `edits` could make of this one, as far as lengths and letters tell.

        One edit changes the length by one at most, and takes one letter at most out of the set of letters and
        brings one in.
        """
        (letters,) = _letters([word], np.array([len(word)]))
        near = np.bitwise_count(self._letters ^ letters) <= 2 * edits
        near &= np.abs(self._lengths - len(word)) <= edits
        return [self.words[i] for i in np.flatnonzero(near).tolist()]


def _letters(words: Sequence[str], lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
    """(len(words),) the set of each word's letters as bits; letters whose code points agree modulo 32 share one."""
    if not words:
        return np.zeros(0, np.uint32)
    codes = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32)
    starts = np.cumsum(lengths) - lengths
    return np.bitwise_or.reduceat(np.uint32(1) << codes % np.uint32(32), starts)
