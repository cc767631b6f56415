"""A query of the search language as a query of the engine, and what to mark in the cards that it finds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import groupby, pairwise
from typing import Final, NamedTuple, TypeGuard

import tantivy
from tantivy import FieldType, Occur

from kb.query import TEXT_FIELDS, And, Node, Not, Or, Phrase, Query, Range, Word, leaves
from kb.search import text
from kb.search.index import BEGINNING, SCHEMA, Snapshot, whole

# Words that a question has and an answer need not have.
# fmt: off
STOP_WORDS: Final = frozenset((
    "a", "about", "an", "and", "are", "as", "at", "be", "by", "can", "did", "do", "does", "for", "from", "how", "in",
    "is", "it", "its", "not", "of", "on", "or", "than", "that", "the", "their", "there", "they", "this", "to", "was",
    "were", "what", "when", "where", "which", "who", "why", "will", "with",
))
# fmt: on

# What begins a question, and verbs that a question has only for its grammar: how does mixup work.
QUESTION_WORDS: Final = frozenset(("explain", "how", "what", "when", "where", "which", "who", "why"))
QUESTION_VERBS: Final = frozenset(
    ("explain", "help", "helps", "mean", "means", "need", "needed", "use", "used", "work", "works")
)

LONGEST_JOINED: Final = 16  # letters of a word that may be typed in two
ENDINGS: Final = 20  # of the words that an unfinished one may become, how many count in the score
TRUSTED: Final = 3  # a word that so many cards contain is spelled as meant
EXACT: Final = 1_000.0  # added to the score of what has all words as typed or a name of them; more than any by words
NAME: Final = 100.0  # added to the score of a card of which a title or another name was typed


class Step(NamedTuple):
    """One word to mark, or one run of Chinese: as typed and folded, and the stems it may stand for."""

    token: str
    stems: frozenset[str] = frozenset()
    prefix: bool = False


class Mark(NamedTuple):
    """Words to mark where they stand in a row, in one field ("" for any)."""

    field: str
    steps: tuple[Step, ...]


class Plan(NamedTuple):
    """What to ask the engine.

    Attributes:
        engine: the engine's query.
        exact: the part of its answers that have all words as typed; None when that is all of them.
        partial: whether answers may lack some of the words.
        marks: what to mark in the answers.
        names: keys (`text.name`) of the names of cards that were typed.
        corrections: word as typed -> the likeliest word meant.
    """

    engine: tantivy.Query
    exact: tantivy.Query | None
    partial: bool
    marks: tuple[Mark, ...]
    names: frozenset[str]
    corrections: Mapping[str, str]


def plan(
    query: Query, snapshot: Snapshot, verdicts: Mapping[str, bool], *, share: float = 1.0, trusted: float = TRUSTED
) -> Plan:
    """How to find what `query` asks for.

    Args:
        verdicts: for each check that was measured, whether it holds.
        share: how many of the words a card must have.
        trusted: a word that fewer cards contain may be a typo.
    """
    matcher = _Matcher(query, snapshot, verdicts, share, trusted)
    found, exact = matcher.query(), None
    if matcher.corrections or share < 1:
        strict = _Matcher(query, snapshot, verdicts, share=1.0, trusted=0)
        exact = strict.query()
        named = [_term("name", name) for name in matcher.names if matcher.name_has_words]
        first = _all([(Occur.Should, either) for either in (exact, *named)])
        found = _all([(Occur.Must, found), (Occur.Should, tantivy.Query.const_score_query(first, EXACT))])
        matcher.names |= strict.names
    return Plan(
        found, exact, share < 1, tuple(dict.fromkeys(matcher.marks)), frozenset(matcher.names), matcher.corrections
    )


def count_words(query: Query) -> int:
    """How many words a card must have, small ones aside."""
    return len(_words_of(_parts(query.root)))


def corrected(query: Query, corrections: Mapping[str, str]) -> Query:
    """The query with its mistyped words replaced."""

    def mended(node: Node) -> Node:
        match node:
            case Word(typed, field, prefix):
                tokens = text.tokens(typed)
                if not corrections.keys() & set(tokens):
                    return node
                return Word("-".join(corrections.get(token, token) for token in tokens), field, prefix)
            case And(parts) | Or(parts):
                return type(node)(tuple(map(mended, parts)))
            case _:
                return node

    return Query(mended(query.root) if query.root else None, query.sort)


class _Forms(NamedTuple):
    """What one English word of a query may stand for.

    Attributes:
        token: as typed, folded.
        stem: its stem.
        meant: stems of what it may be a typo of, and how much each counts.
        endings: stems of the commonest words that it may be the beginning of.
        more: whether there are further such words.
        unfinished: whether it may be the beginning of a word.
    """

    token: str
    stem: str
    meant: Mapping[str, float]
    endings: tuple[str, ...]
    more: bool
    unfinished: bool

    @property
    def stems(self) -> tuple[str, ...]:
        return (self.stem, *self.meant, *self.endings)

    @property
    def step(self) -> Step:
        return Step(self.token, frozenset(self.stems), self.unfinished)

    def query(self, field: str) -> tantivy.Query:
        others = [tantivy.Query.boost_query(_term(field, stem), boost) for stem, boost in self.meant.items()]
        others += [tantivy.Query.boost_query(_term(field, stem), 0.5) for stem in self.endings]
        if self.more:
            others.append(_unscored(self._anything_that_begins_so(field)))
        as_typed = _term(field, self.stem)
        return tantivy.Query.disjunction_max_query([as_typed, *others]) if others else as_typed

    def _anything_that_begins_so(self, field: str) -> tantivy.Query:
        if not field and len(self.token) <= BEGINNING:
            return tantivy.Query.term_query(SCHEMA, "beginning", self.token)
        # Stems begin as their words do: only a long beginning may outlast the stem, and that has few endings.
        return tantivy.Query.regex_query(SCHEMA, field or "anywhere", f"{self.token}.*")


_Clause = tuple[Occur, tantivy.Query]


class _Matcher:
    """Turns the nodes of one query into the engine's; gathers marks, names and corrections on the way."""

    def __init__(
        self, query: Query, snapshot: Snapshot, verdicts: Mapping[str, bool], share: float, trusted: float
    ) -> None:
        self.root = query.root
        self.snapshot, self.searcher = snapshot, snapshot.searcher
        self.verdicts, self.share, self.trusted = verdicts, share, trusted
        self.marks: list[Mark] = []
        self.names: set[str] = set()
        self.name_has_words = False
        self.corrections: dict[str, str] = {}
        words = [leaf for leaf in leaves(query.root) if isinstance(leaf, Word) and _has_words(leaf)]
        self.unfinished = words[-1] if words else None

    def query(self) -> tantivy.Query:
        """What finds the answers: cards with the words, or of that name, that pass everything else."""
        parts = _parts(self.root)
        words = _words_of(parts)
        clauses = [(Occur.Must, found) for part in parts if not _is_word(part) and (found := self.node(part))]
        if found := self.words(words):
            named = [tantivy.Query.const_score_query(_term("name", name), NAME) for name in self.names_typed(words)]
            clauses.append((Occur.Must, _all([(Occur.Should, either) for either in (found, *named)])))
        return _all(clauses) if clauses else _EVERY

    def node(self, node: Node) -> tantivy.Query | None:
        """What finds `node`; None for what restricts nothing."""
        match node:
            case And(parts):
                clauses = [(Occur.Must, found) for part in parts if (found := self.node(part))]
                return _all(clauses) if clauses else None
            case Or(parts):
                return _any([found for part in parts if (found := self.node(part))])
            case Not(part):
                excluded = _Matcher(Query(), self.snapshot, self.verdicts, share=1.0, trusted=0).node(part)
                return excluded and _all([(Occur.Must, _unscored(_EVERY)), (Occur.MustNot, excluded)])
            case Range():
                return _range(node)
            case Word():
                return self.word(node) if _has_words(node) else self.whole(node)
            case Phrase():
                return self.phrase(node) if _has_words(node) else self.whole(node)

    def words(self, words: Sequence[Word | Phrase]) -> tantivy.Query | None:
        """Cards that have the share of `words`; two that follow each other may be written as one."""
        found = [(word, query) for word in words if (query := self.node(word))]
        if len(found) == 1:
            return found[0][1]
        either = [query for _, query in found]
        for i, ((first, _), (second, _)) in enumerate(pairwise(found)):
            if _is_plain(first) and _is_plain(second) and (joined := self.joined("", [first.text, second.text])):
                either[i], either[i + 1] = (_any_of(query, joined) for query in either[i : i + 2])
        return _some(either, self.share) if either else None

    def names_typed(self, words: Sequence[Word | Phrase]) -> Iterable[str]:
        """The keys of names of cards that `words` are, as typed or corrected."""
        if any(word.field for word in words):
            return ()
        typed = [token for word in words for token in text.tokens(word.text)]
        self.name_has_words = len(typed) > 1
        spellings = [typed, [self.corrections.get(token, token) for token in typed]] if self.corrections else [typed]
        self.names = {name for name in map(text.name, spellings) if self.snapshot.known(name, "name")}
        return self.names

    def whole(self, leaf: Word | Phrase) -> tantivy.Query:
        """Cards that have this value in a field of whole values."""
        field, value = leaf.field, whole(leaf.text)
        if field == "is":
            linked = tantivy.Query.term_set_query(SCHEMA, "slug", self.snapshot.linked)
            links = tantivy.Query.term_query(SCHEMA, "has", "related")
            return _all([(Occur.Must, _unscored(_EVERY)), (Occur.MustNot, links), (Occur.MustNot, linked)])
        if field == "claim":
            return _unscored(tantivy.Query.term_set_query(SCHEMA, "claim", self.checks(value)))
        if field == "tag":
            field = "tag_value"
        if isinstance(leaf, Word) and leaf.prefix:
            found = [term for term, _ in self.searcher.terms_with_prefix(field, value)]
            return _unscored(tantivy.Query.term_set_query(SCHEMA, field, found))
        return _unscored(tantivy.Query.term_query(SCHEMA, field, value))

    def checks(self, state: str) -> list[str]:
        if state == "unmeasured":
            named = (check for check, _ in self.searcher.terms_with_prefix("claim", ""))
            return [check for check in named if check not in self.verdicts]
        return [check for check, holds in self.verdicts.items() if holds == (state == "holding")]

    def word(self, leaf: Word) -> tantivy.Query | None:
        """A word as typed: what a sign joins stands in a row; English and Chinese parts stand anywhere."""
        found = []
        tokens = text.tokens(leaf.text)
        unfinished = tokens[-1:] if leaf.prefix or leaf is self.unfinished else []
        for chinese, run in groupby(tokens, text.is_chinese):
            row = list(run)
            if chinese:
                found += [self.chinese(leaf.field, token) for token in row]
            else:
                forms = [self.forms(token, unfinished=row[i:] == unfinished) for i, token in enumerate(row)]
                found.append(self.english(leaf.field, forms))
        return _all([(Occur.Must, part) for part in found]) if found else None

    def phrase(self, leaf: Phrase) -> tantivy.Query | None:
        """Words in a row, spelled as typed."""
        tokens = text.tokens(leaf.text)
        if not tokens:
            return None
        steps = (
            Step(token) if text.is_chinese(token) else Step(token, frozenset({text.stem(token)})) for token in tokens
        )
        self.mark(leaf.field, *steps)
        return _row(leaf.field, tokens)

    def chinese(self, field: str, run: str) -> tantivy.Query:
        """A run of Chinese as it stands or without its small words, or the share of its pairs."""
        if self.share < 1:
            return self.every(field, text.telling_pairs(run), self.share)
        as_typed = self.every(field, [run], 1.0)
        words = text.without_small_words(run)
        return _any_of(as_typed, self.every(field, words, 1.0) if words else None)

    def every(self, field: str, runs: Sequence[str], share: float) -> tantivy.Query:
        """Cards with the share of some runs of Chinese."""
        for run in runs:
            self.mark(field, Step(run))
        return _some([_row(field, [run]) for run in runs], share)

    def english(self, field: str, row: list[_Forms]) -> tantivy.Query:
        """One word, or words in a row, which may also be written as one."""
        if len(row) == 1:
            self.mark(field, row[0].step)
            return _any_of(row[0].query(field), self.split(field, row[0]))
        if self.share < 1:
            return _some([self.english(field, [forms]) for forms in row], self.share)
        self.mark(field, *(forms.step for forms in row))
        if all(len(forms.stems) == 1 for forms in row):
            found = _row(field, [forms.token for forms in row])
        else:
            either = ["|".join(forms.stems) for forms in row]
            found = tantivy.Query.regex_phrase_query(SCHEMA, field or "anywhere", [*either])
        return _any_of(found, self.joined(field, [forms.token for forms in row]))

    def joined(self, field: str, parts: Sequence[str]) -> tantivy.Query | None:
        """Cards with a word that was typed in parts, if there are any: cut mix, drop-out, efficent net."""
        typed = [part.casefold() for part in parts]
        for spelled in (typed, [self.corrections.get(part, part) for part in typed]):
            if len(word := "".join(spelled)) <= LONGEST_JOINED and self.known(word):
                self.mark(field, Step("".join(typed), frozenset({text.stem(word)})))
                return _term(field, text.stem(word))
        return None

    def split(self, field: str, forms: _Forms) -> tantivy.Query | None:
        """Cards with the two words that an unknown one consists of, if there are any: labelsmoothing."""
        if not self.trusted or len(forms.stems) > 1 or self.snapshot.known(forms.stem):
            return None
        halves = [[forms.token[:i], forms.token[i:]] for i in range(3, len(forms.token) - 2)]
        best = max(halves, key=lambda row: min(self.known(word) for word in row), default=None)
        if not best or not all(map(self.known, best)):
            return None
        self.mark(field, *(Step(word, frozenset({text.stem(word)})) for word in best))
        return _row(field, best)

    def forms(self, token: str, *, unfinished: bool) -> _Forms:
        """What a word may stand for: itself; unfinished, what it begins; mistyped, what may be meant."""
        stem = text.stem(token)
        found = self.searcher.terms_with_prefix("word", token, limit=ENDINGS + 1) if unfinished else []
        endings = [word for word, _ in found]
        known = self.snapshot.known(stem)
        begins = self.trusted < math.inf and any(word != token for word in endings)
        suspect = known < self.trusted and not begins
        meant = self.meant(token, stem, known) if suspect else {}
        begun = dict.fromkeys(ending for word in endings[:ENDINGS] if (ending := text.stem(word)) != stem)
        return _Forms(token, stem, meant, (*begun,), len(endings) > ENDINGS, unfinished)

    def meant(self, token: str, stem: str, known: int) -> Mapping[str, float]:
        """The stems of what a word may be a typo of, and how much each counts: the nearest most.

        A word that does occur may be right: then only words that differ by one edit count, and that are much commoner
        unless every word is mistrusted.
        """
        near = self.snapshot.vocabulary.neighbors(token)
        if known:
            least = 2 * known if self.trusted == TRUSTED else 0
            near = {word: edits for word, edits in near.items() if edits == 1 and self.known(word) > least}
        near = {word: edits for word, edits in near.items() if text.stem(word) != stem}
        if not near:
            return {}
        self.corrections[token] = next(iter(near))
        nearest = min(near.values())
        return {text.stem(word): 1.0 if edits == nearest else 0.5 for word, edits in reversed(near.items())}

    def known(self, word: str) -> int:
        """How many cards have the word in some form."""
        return self.snapshot.known(text.stem(word))

    def mark(self, field: str, *steps: Step) -> None:
        self.marks.append(Mark(field, steps))


def _parts(root: Node | None) -> tuple[Node, ...]:
    """What must all hold."""
    if root is None:
        return ()
    return root.parts if isinstance(root, And) else (root,)


def _words_of(parts: Iterable[Node]) -> list[Word | Phrase]:
    """The words among `parts`; small ones only when there are no others."""
    words = [part for part in parts if _is_word(part)]
    asks = any(_is_bare(word, QUESTION_WORDS) for word in words)
    small = STOP_WORDS | QUESTION_VERBS if asks else STOP_WORDS
    return [word for word in words if not _is_bare(word, small)] or words


def _has_words(leaf: Word | Phrase) -> bool:
    """Whether a leaf asks for words inside a text, not for a whole value."""
    return not leaf.field or (leaf.field in TEXT_FIELDS and not (leaf.field == "tag" and isinstance(leaf, Phrase)))


def _is_word(part: Node) -> TypeGuard[Word | Phrase]:
    return isinstance(part, Word | Phrase) and _has_words(part)


def _is_bare(word: Word | Phrase, among: frozenset[str]) -> bool:
    return isinstance(word, Word) and not word.field and word.text.lower().rstrip("?") in among


def _is_plain(leaf: Word | Phrase) -> bool:
    return isinstance(leaf, Word) and not leaf.field and leaf.text.isascii() and leaf.text.isalnum()


def _row(field: str, tokens: list[str]) -> tantivy.Query:
    terms = list(text.terms(tokens))
    if len(terms) == 1:
        return _term(field, terms[0][1])
    return tantivy.Query.phrase_query(SCHEMA, field or "anywhere", [*terms])


def _term(field: str, term: str) -> tantivy.Query:
    return tantivy.Query.term_query(SCHEMA, field or "anywhere", term)


def _range(leaf: Range) -> tantivy.Query:
    low, high = (end.toordinal() if isinstance(end, date) else end for end in (leaf.low, leaf.high))
    return _unscored(tantivy.Query.range_query(SCHEMA, leaf.field, FieldType.Integer, low, high))


_EVERY = tantivy.Query.all_query()


def _unscored(query: tantivy.Query) -> tantivy.Query:
    return tantivy.Query.const_score_query(query, 0.0)


def _all(clauses: list[_Clause]) -> tantivy.Query:
    return clauses[0][1] if len(clauses) == 1 else tantivy.Query.boolean_query(clauses)


def _any(queries: Iterable[tantivy.Query]) -> tantivy.Query | None:
    clauses = [(Occur.Should, query) for query in queries]
    return _all(clauses) if clauses else None


def _any_of(first: tantivy.Query, other: tantivy.Query | None) -> tantivy.Query:
    return tantivy.Query.disjunction_max_query([first, other]) if other else first


def _some(queries: list[tantivy.Query], share: float) -> tantivy.Query:
    """At least this share of `queries`."""
    if len(queries) == 1:
        return queries[0]
    if share == 1:
        return tantivy.Query.boolean_query([(Occur.Must, query) for query in queries])
    clauses = [(Occur.Should, query) for query in queries]
    return tantivy.Query.boolean_query(clauses, minimum_number_should_match=math.ceil(share * len(clauses)))
