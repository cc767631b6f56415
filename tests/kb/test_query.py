from datetime import date

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kb.query import CHOICES, EXAMPLES, TEXT_FIELDS, And, Not, Or, Phrase, Query, Range, Word, leaves, parse

# Words and signs that mean something to the language, so that random texts reach its corners.
# fmt: off
PIECES = st.sampled_from((
    "gumbel", "对比学习", "λ", "\\lambda", "label-smoothing", "OR", "or", "-x", "-", "--", "*", "a*", "(", ")", '"',
    "“", "”", "「", "title:", "titel:", "title:a", "key:(a", "year:", "year:2019", "year:2019..2021", "year:>2018",
    "year:x", "added:2026-11", "has:demo", "has:x", "is:orphan", "sort:-year", "sort:x", "links-to:mixup",
    "claim:failing", "ＴＩＴＬＥ：ａ", "https://a.b/c",
))
# fmt: on
TEXTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map(" ".join), st.lists(PIECES).map("".join))


def ranges(field, ends):
    between = st.tuples(ends, ends).map(sorted)
    one_end = ends.flatmap(lambda end: st.sampled_from([(end, end), (end, None), (None, end)]))
    return st.one_of(between, one_end).map(lambda found: Range(field, *found))


WORDS = st.builds(
    Word,
    st.from_regex(r"[a-z]{2,8}(-[a-z]{2,5})?|[知识蒸馏对比学习]{1,5}", fullmatch=True),
    st.sampled_from(["", "topic", "demo", "links-to", *TEXT_FIELDS]),
    prefix=st.booleans(),
)
LEAVES = st.one_of(
    WORDS,
    st.sampled_from([Word(value, field) for field, values in CHOICES.items() for value in values]),
    st.builds(
        Phrase, st.from_regex(r"[a-z]{1,5}( [a-z]{1,5}){0,2}", fullmatch=True), st.sampled_from(["", "tag", "key"])
    ),
    ranges("year", st.integers(0, 9999)),
    ranges("added", st.dates()),
)


def joined(kind, parts):
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, kind) else [part])]
    return kind(tuple(flat))


NODES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: joined(And, parts)),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: joined(Or, parts)),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(NODES, st.sampled_from(["relevance", "-year", "title"]))
def test_a_query_written_out_reads_back_as_itself(root, sort):
    query = Query(root, sort)
    assert parse(str(query)) == query
    assert parse(str(query)).notices == ()


@pytest.mark.parametrize("typed", EXAMPLES)
def test_an_example_of_the_language_is_understood(typed):
    assert parse(typed).notices == () and str(parse(typed)) == typed


@settings(max_examples=500, deadline=None)
@given(TEXTS)
@example("-(-")
def test_any_text_is_read_without_an_error_and_reads_the_same_when_written_out(text):
    query = parse(text)
    assert parse(str(query)) == query


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("", None),
        ("gumbel", Word("gumbel")),
        ("Gumbel softmax", And((Word("Gumbel"), Word("softmax")))),
        ("a OR b c", Or((Word("a"), And((Word("b"), Word("c")))))),
        ("(a OR b) c", And((Or((Word("a"), Word("b"))), Word("c")))),
        ("a -b", And((Word("a"), Not(Word("b"))))),
        ("a -(b c)", And((Word("a"), Not(And((Word("b"), Word("c"))))))),
        ("label-smoothing", Word("label-smoothing")),
        ('"label  smoothing"', Phrase("label smoothing")),
        ("quant*", Word("quant", prefix=True)),
        ("title:mixup", Word("mixup", "title")),
        ("TITLE:mixup", Word("mixup", "title")),
        ("methodology:mixup", Word("mixup", "method")),
        ("key:(a OR b)", Or((Word("a", "key"), Word("b", "key")))),
        ('author:"Eric Jang"', Phrase("Eric Jang", "author")),
        ("links-to:mixup", Word("mixup", "links-to")),
        ("year:2019", Range("year", 2019, 2019)),
        ("year:2019..2021", Range("year", 2019, 2021)),
        ("year:2021..2019", Range("year", 2019, 2021)),
        ("year:>2018", Range("year", 2019, None)),
        ("year:<=2018", Range("year", None, 2018)),
        ("year:2019..", Range("year", 2019, None)),
        ("added:2026-02", Range("added", date(2026, 2, 1), date(2026, 2, 28))),
        ("added:>2026-02", Range("added", date(2026, 3, 1), None)),
        ("added:2026-12..2026-01", Range("added", date(2026, 1, 1), date(2026, 12, 31))),
        ("ｔｉｔｌｅ：ｍｉｘｕｐ", Word("mixup", "title")),
        ("“label smoothing”", Phrase("label smoothing")),
        ("对比学习 loss", And((Word("对比学习"), Word("loss")))),
        ("\\lambda", Word("\\lambda")),
    ],
)
def test_what_is_typed_is_understood(text, root):
    query = parse(text)
    assert query.root == root
    assert query.notices == ()


@pytest.mark.parametrize(
    ("text", "root", "told"),
    [
        ("titel:mixup", Word("titel:mixup"), "title:"),
        ("year:soon", Phrase("soon"), "2019..2021"),
        ("has:demoo", Phrase("demoo"), "demo"),
        ('"label smoothing', Phrase("label smoothing"), "quote is not closed"),
        ("(a b", And((Word("a"), Word("b"))), "( is not closed"),
        ("a) b", And((Word("a"), Word("b"))), ") closes nothing"),
        ("OR a", Word("a"), "OR stands between"),
        ("a sort:size", Word("a"), "-year"),
        ("a" * 3_000, Word("a" * 2_000), "2,000"),
        ("(" * 60 + "a" + ")" * 60, Word("a"), "40 deep"),
    ],
)
def test_what_is_not_understood_is_searched_as_words_and_said(text, root, told):
    query = parse(text)
    assert query.root == root
    assert any(told in notice for notice in query.notices)


def test_the_order_is_read_and_written_at_the_end():
    assert parse("sort:-year gumbel") == Query(Word("gumbel"), "-year")
    assert str(parse("sort:-year gumbel OR mixup")) == "gumbel OR mixup sort:-year"


def test_leaves_are_what_is_asked_for_and_not_what_is_excluded():
    assert [str(leaf) for leaf in leaves(parse('a (b OR key:c) -d year:2019 "e f"').root)] == [
        "a",
        "b",
        "key:c",
        "year:2019",
        '"e f"',
    ]


def test_a_query_is_narrowed_to_values_of_a_field_whatever_was_typed():
    assert str(parse("a OR b").narrowed("tag", ["x y", "z"])) == '(a OR b) (tag:"x y" OR tag:"z")'
    assert str(parse('"open').narrowed("year", ["2019"])) == '"open" year:2019'
    assert str(parse("").narrowed("topic", ["losses"])) == 'topic:"losses"'
    assert parse("a").narrowed("topic", []) == parse("a")
