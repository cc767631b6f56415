"""What matching sees of a text: folded letters, words and runs of Chinese, the terms that stand in the index.

Folding makes one of a letter's many forms: case, accents, full width (NFKC), traditional characters (to simplified,
one by one), Greek letters and LaTeX commands (to their names, so that `\\lambda`, λ and lambda are one word; commands
that only lay out are dropped).
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Final

from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

# fmt: off
GREEK: Final = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)
_OPERATORS: Final = (
    "arg", "sum", "sqrt", "nabla", "partial", "log", "ln", "exp", "sin", "cos", "tan", "tanh", "max", "min", "argmax",
    "argmin", "sup", "inf", "lim", "det",
)
# fmt: on
# Signs that a person would search for by a word, and the word.
SIGNS: Final[Mapping[str, str]] = {
    unicodedata.lookup(f"GREEK {size} LETTER {name.replace('lambda', 'lamda')}"): name
    for name in GREEK
    for size in ("SMALL", "CAPITAL")
} | {"∑": "sum", "∏": "product", "∫": "integral", "√": "sqrt", "∇": "nabla", "∂": "partial", "∞": "infinity"}
# The same for LaTeX commands; every other command lays out.
COMMANDS: Final[Mapping[str, str]] = (
    {name: name for name in GREEK}
    | {f"var{name}": name for name in GREEK}
    | {name.capitalize(): name for name in GREEK}
    | {name: name for name in _OPERATORS}
    | {"prod": "product", "int": "integral", "infty": "infinity"}
)

_HAN = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
CHINESE: Final = re.compile(f"[{_HAN}]+")
TOKEN: Final = re.compile(f"[{_HAN}]+|[^\\W_{_HAN}]+")
_WRAPPED = re.compile(rf"(?<=[{_HAN}])[ \t]*\n[ \t]*(?=[{_HAN}])")
_SHIFTED = re.compile("[²³¹\u1d2c-\u1d6a\u2070-\u209c\u2c7c]+")  # exponents and indices
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SMALL_WORDS = re.compile("为什么|什么|怎么样|怎么|如何|哪些|哪个|是否|可以|以及|或者|[的了吗呢是和与]")
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b", re.IGNORECASE)


class _Folded(dict[int, str]):
    """One character -> what matching sees of it, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold_character(chr(code))
        return folded


def _fold_character(character: str) -> str:
    if character in SIGNS:
        return f" {SIGNS[character]} "
    if CHINESE.fullmatch(character):
        return _to_simplified().convert(unicodedata.normalize("NFKC", character))  # type: ignore[attr-defined, no-any-return]
    plain = unicodedata.normalize("NFKC", character).casefold()
    bare = "".join(c for c in unicodedata.normalize("NFD", plain) if unicodedata.category(c) != "Mn")
    again = unicodedata.normalize("NFC", bare)
    return again if again in (character, "") or len(again) > 4 else again.translate(_FOLDED)


_FOLDED = _Folded()


@cache
def _to_simplified() -> object:
    from opencc import OpenCC  # only a library with Chinese in it pays for the table

    return OpenCC("t2s")


def fold(text: str) -> str:
    """`text` as matching sees it, LaTeX commands replaced by their words."""
    if "\\" in text:
        text = _COMMAND.sub(lambda found: f" {COMMANDS.get(found[1], '')} ", text)
    if not text.isascii():
        text = _SHIFTED.sub(r" \g<0> ", _WRAPPED.sub("", text))
    if "'" in text or "’" in text:
        text = _POSSESSIVE.sub("", text)
    return text.translate(_FOLDED)


def fold_in_place(text: str) -> str:
    """`text` folded where one character stays one, so that places in it are places in `text`; LaTeX stays."""
    if text.isascii():
        return text.lower()
    return text.translate(_IN_PLACE)


class _FoldedInPlace(dict[int, str]):
    def __missing__(self, code: int) -> str:
        folded = _FOLDED[code]
        self[code] = kept = folded if len(folded) == 1 and not _SHIFTED.match(chr(code)) else chr(code)
        return kept


_IN_PLACE = _FoldedInPlace()


def tokens(text: str) -> list[str]:
    """The words and runs of Chinese in `text`, folded, in order."""
    return TOKEN.findall(fold(text))


def indexed(tokens: list[str]) -> str:
    """The text that goes into the index, split at spaces there: each run of Chinese as characters and pairs.

    对比学 becomes 对 对比 比 比学 学: a word of any length is found inside it, by its pairs and their places.
    """
    return " ".join(_spread(token) if is_chinese(token) else token for token in tokens)


def is_chinese(token: str) -> bool:
    """Whether a token is a run of Chinese: tokens never mix."""
    return token > "\u3000" and CHINESE.match(token) is not None


@lru_cache(maxsize=1 << 14)
def _spread(run: str) -> str:
    return " ".join(run[i // 2 : i // 2 + 1 + i % 2] for i in range(2 * len(run) - 1))


def terms(tokens: list[str]) -> Iterator[tuple[int, str]]:
    """The terms that stand for `tokens` in the index, and their places in it relative to each other.

    English words by their stems; a run of Chinese by pairs that cover it, since pairs are rarer than characters.
    """
    at = 0
    for token in tokens:
        if not is_chinese(token):
            yield at, stem(token)
            at += 1
        else:
            last = len(token) - 2
            for i in [*range(0, last, 2), last] if last >= 0 else ():
                yield at + 2 * i + 1, token[i : i + 2]
            if last < 0:
                yield at, token
            at += 2 * len(token) - 1


def telling_pairs(run: str) -> list[str]:
    """All pairs of neighbors in a run of Chinese, but for the small words of a question; single characters as such."""
    pieces = [piece for piece in _SMALL_WORDS.split(run) if piece] or [run]
    return [pair for piece in pieces for pair in [piece[i : i + 2] for i in range(len(piece) - 1)] or [piece]]


def without_small_words(run: str) -> list[str]:
    """What the small words of a question part a run of Chinese into, if all of it may be words: 知识的蒸馏."""
    pieces = _SMALL_WORDS.split(run)
    return pieces if len(pieces) > 1 and min(map(len, pieces)) > 1 else []


def name(tokens: Sequence[str]) -> str:
    """The key of a name: the same for Drop-Out and dropout, triplet losses and triplet loss."""
    return "".join(token if is_chinese(token) else stem(token) for token in tokens)


def analyzer() -> TextAnalyzer:
    """What the index does with `indexed` text: split at spaces, stem (Porter's second English stemmer)."""
    return TextAnalyzerBuilder(Tokenizer.whitespace()).filter(Filter.stemmer("english")).build()


_ANALYZER = analyzer()


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The stem of one folded English word: distillation -> distil."""
    return _ANALYZER.analyze(word)[0]
