"""A query of the search language as a query of the engine, and what to mark in the cards that it finds."""

from collections.abc import Iterable, Mapping
from datetime import date
from itertools import groupby
from typing import Final, NamedTuple

import tantivy
from tantivy import FieldType, Occur

from kb.query import TEXT_FIELDS, And, Node, Not, Or, Phrase, Query, Range, Word, leaves
from kb.search import text
from kb.search.index import SCHEMA, Snapshot, whole

# Words that a question has and an answer need not have.
# fmt: off
STOP_WORDS: Final = frozenset((
    "a", "about", "an", "and", "are", "as", "at", "be", "by", "can", "did", "do", "does", "for", "from", "how", "in",
    "is", "it", "its", "of", "on", "or", "that", "the", "their", "there", "they", "this", "to", "was", "were", "what",
    "when", "where", "which", "who", "why", "will", "with",
))
# fmt: on
ENDINGS: Final = 50  # of the words that an unfinished one may become, how many count in the score
TRUSTED: Final = 3  # a word that so many cards contain is spelled as meant
EXACT: Final = 1_000.0  # added to the score of what matches as typed; more than any score by words


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
        exact: the part of its answers that match as typed; None when that is all of them.
        scored: whether its answers differ in relevance.
        marks: what to mark in the answers.
        corrections: word as typed -> the likeliest word meant.
    """

    engine: tantivy.Query
    exact: tantivy.Query | None
    scored: bool
    marks: tuple[Mark, ...]
    corrections: Mapping[str, str]


def plan(query: Query, snapshot: Snapshot, verdicts: Mapping[str, bool], *, relaxed: bool = False) -> Plan:
    """How to find what `query` asks for; with `relaxed`, cards that have some of its words instead of all.

    Args:
        verdicts: for each check that was measured, whether it holds.
    """
    matcher = _Matcher(query, snapshot, verdicts, relaxed)
    found = matcher.query()
    exact = None
    if matcher.corrections:
        exact = _Matcher(query, snapshot, verdicts, relaxed, corrected=False).query()
        found = _all([(Occur.Must, found), (Occur.Should, tantivy.Query.const_score_query(exact, EXACT))])
    return Plan(found, exact, bool(matcher.marks), tuple(dict.fromkeys(matcher.marks)), matcher.corrections)


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
        meant: stems of what it may be a typo of, the likeliest first.
        endings: stems of words that it may be the beginning of, the commonest first.
        more: further such words, unstemmed.
        unfinished: whether it may be the beginning of a word.
    """

    token: str
    stem: str
    meant: tuple[str, ...]
    endings: tuple[str, ...]
    more: tuple[str, ...]
    unfinished: bool

    @property
    def stems(self) -> tuple[str, ...]:
        return (self.stem, *self.meant, *self.endings)

    def query(self, field: str) -> tantivy.Query:
        others = [_term(field, stem) for stem in self.meant]
        others += [tantivy.Query.boost_query(_term(field, stem), 0.5) for stem in self.endings]
        if self.more:
            others.append(_unscored(tantivy.Query.term_set_query(SCHEMA, "word", [*self.more])))
        as_typed = _term(field, self.stem)
        return tantivy.Query.disjunction_max_query([as_typed, *others]) if others else as_typed


_Clause = tuple[Occur, tantivy.Query]


class _Matcher:
    """Turns the nodes of one query into the engine's; gathers marks and corrections on the way."""

    def __init__(
        self,
        query: Query,
        snapshot: Snapshot,
        verdicts: Mapping[str, bool],
        relaxed: bool,
        corrected: bool = True,
    ) -> None:
        self.snapshot, self.searcher = snapshot, snapshot.searcher
        self.verdicts = verdicts
        self.relaxed = relaxed
        self.corrected = corrected
        self.marks: list[Mark] = []
        self.corrections: dict[str, str] = {}
        self.root = query.root
        words = [leaf for leaf in leaves(query.root) if isinstance(leaf, Word) and _has_words(leaf)]
        self.unfinished = words[-1] if words else None

    def query(self) -> tantivy.Query:
        return (self.node(self.root) if self.root else None) or _EVERY

    def node(self, node: Node) -> tantivy.Query | None:
        """What finds `node`; None for what restricts nothing."""
        match node:
            case And(parts):
                return self.all_of(parts)
            case Or(parts):
                return _any([found for part in parts if (found := self.node(part))])
            case Not(part):
                excluded = _Matcher(Query(), self.snapshot, self.verdicts, relaxed=False, corrected=False).node(part)
                return excluded and _all([(Occur.Must, _unscored(_EVERY)), (Occur.MustNot, excluded)])
            case Range():
                return _range(node)
            case Word():
                return self.word(node) if _has_words(node) else self.whole(node)
            case Phrase():
                return self.phrase(node) if _has_words(node) else self.whole(node)

    def all_of(self, parts: tuple[Node, ...]) -> tantivy.Query | None:
        telling = [part for part in parts if not _is_stop_word(part)]
        wordy = [part for part in telling or parts if isinstance(part, Word | Phrase) and _has_words(part)]
        must = [(Occur.Must, found) for part in telling or parts if part not in wordy and (found := self.node(part))]
        words = [found for part in wordy if (found := self.node(part))]
        if self.relaxed and words:
            must.append((Occur.Must, _some(words)))
        else:
            must += [(Occur.Must, found) for found in words]
        return _all(must) if must else None

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
        self.mark(leaf.field, [Step(token, frozenset(_stems(token))) for token in tokens])
        return _row(leaf.field, tokens)

    def chinese(self, field: str, run: str) -> tantivy.Query:
        parts = text.pairs(run) if self.relaxed else [run]
        for part in parts:
            self.mark(field, [Step(part)])
        return _some([_row(field, [part]) for part in parts])

    def english(self, field: str, row: list[_Forms]) -> tantivy.Query:
        if self.relaxed and len(row) > 1:
            return _some([self.english(field, [forms]) for forms in row])
        self.mark(field, [Step(forms.token, frozenset(forms.stems), forms.unfinished) for forms in row])
        if len(row) == 1:
            return row[0].query(field)
        if all(len(forms.stems) == 1 for forms in row):
            return _row(field, [forms.token for forms in row])
        either = ["|".join(forms.stems) for forms in row]
        return tantivy.Query.regex_phrase_query(SCHEMA, field or "anywhere", [*either])

    def forms(self, token: str, *, unfinished: bool) -> _Forms:
        """What a word may stand for: itself; unfinished, what it begins; mistyped, what may be meant."""
        stem = text.stem(token)
        endings = [word for word, _ in self.searcher.terms_with_prefix("word", token)] if unfinished else []
        known = self.searcher.doc_freq("anywhere", stem)
        suspect = self.corrected and known < TRUSTED and not any(word != token for word in endings)
        meant = dict.fromkeys(map(text.stem, self.meant(token, known))) if suspect else {}
        begun = dict.fromkeys(ending for word in endings[:ENDINGS] if (ending := text.stem(word)) != stem)
        return _Forms(token, stem, (*meant,), (*begun,), (*endings[ENDINGS:],), unfinished)

    def meant(self, token: str, known: int) -> tuple[str, ...]:
        """What a rare or unknown word may be a typo of.

        A word that does occur may be right: then only words that differ by one edit and are much commoner count.
        """
        found = self.snapshot.vocabulary.neighbors(token)
        if known:
            common = [self.searcher.doc_freq("anywhere", text.stem(word)) > 2 * known for word in found]
            found = tuple(word for word, is_common in zip(found, common, strict=True) if is_common)
        found = tuple(word for word in found if text.stem(word) != text.stem(token))
        if found:
            self.corrections[token] = found[0]
        return found

    def mark(self, field: str, steps: list[Step]) -> None:
        self.marks.append(Mark(field, tuple(steps)))


def _has_words(leaf: Word | Phrase) -> bool:
    """Whether a leaf asks for words inside a text, not for a whole value."""
    return not leaf.field or (leaf.field in TEXT_FIELDS and not (leaf.field == "tag" and isinstance(leaf, Phrase)))


def _is_stop_word(node: Node) -> bool:
    return isinstance(node, Word) and not node.field and node.text.lower() in STOP_WORDS


def _stems(token: str) -> set[str]:
    return set() if text.is_chinese(token) else {text.stem(token)}


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


def _some(queries: list[tantivy.Query]) -> tantivy.Query:
    """A third of `queries` or more."""
    clauses = [(Occur.Should, query) for query in queries]
    if len(clauses) == 1:
        return queries[0]
    return tantivy.Query.boolean_query(clauses, minimum_number_should_match=-(-len(clauses) // 3))
