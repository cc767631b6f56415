"""Cards: what is read, what is explained, what is written."""

from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kb.card import (
    SECTIONS,
    TOPICS,
    Card,
    Claim,
    Correction,
    Problem,
    Related,
    dump,
    parse,
    read,
    read_topics,
    schema,
    syntax,
)

NOTES = Path(__file__).parents[2] / "notes"

COMPLETE = """\
title: "Categorical Reparameterization with Gumbel-Softmax"
title_zh: 用 Gumbel-Softmax 做离散重参数化
kind: paper
authors: [Eric Jang, Shixiang Gu, Ben Poole]
year: 2017
venue: ICLR 2017
topic: sampling
tags: [reparameterization, discrete]
aliases: [Gumble softmax, 耿贝尔 softmax]
status: read
added: 2026-11-21
links: {arxiv: "1611.01144", doi: 10.48550/arXiv.1611.01144, code: "https://example.org/code"}
demos: [gumbel_softmax]
related: [{card: mixup, why: "mixes labels, too"}]
claims:
  - says: Samples approach one-hot vectors as the temperature falls.
    check: gumbel_softmax.one_hot_limit
corrections:
  - {said: the noise carries the parameters, right: the noise is parameter-free, why: "eq. (1)"}
unverified: [venue]
summary_zh: 两三句中文摘要。
Key: |
  Take the **arg max** away: $y_i = \\exp((\\log \\pi_i + g_i) / \\tau)$.
Notes: |
  Anything else.
"""


def problems_of(text: str, **how: Any) -> tuple[Problem, ...]:
    return parse(text, slug="a_card", file="notes/a_card.yaml", **how)[1]


def test_a_complete_card_is_read_field_by_field() -> None:
    card, problems = parse(COMPLETE, slug="gumbel_softmax")
    assert problems == ()
    assert card == Card(
        slug="gumbel_softmax",
        title="Categorical Reparameterization with Gumbel-Softmax",
        title_zh="用 Gumbel-Softmax 做离散重参数化",
        kind="paper",
        authors=("Eric Jang", "Shixiang Gu", "Ben Poole"),
        year=2017,
        venue="ICLR 2017",
        topic="sampling",
        tags=("reparameterization", "discrete"),
        aliases=("Gumble softmax", "耿贝尔 softmax"),
        status="read",
        added=date(2026, 11, 21),
        links={
            "arxiv": "1611.01144",
            "doi": "10.48550/arXiv.1611.01144",
            "code": "https://example.org/code",
        },
        demos=("gumbel_softmax",),
        related=(Related(card="mixup", why="mixes labels, too"),),
        claims=(
            Claim(
                says="Samples approach one-hot vectors as the temperature falls.",
                check="gumbel_softmax.one_hot_limit",
            ),
        ),
        corrections=(
            Correction(said="the noise carries the parameters", right="the noise is parameter-free", why="eq. (1)"),
        ),
        unverified=("venue",),
        summary_zh="两三句中文摘要。",
        Key=r"Take the **arg max** away: $y_i = \exp((\log \pi_i + g_i) / \tau)$.",
        Notes="Anything else.",
    )
    assert list(card.sections) == ["Key", "Notes"]


def test_a_title_is_enough() -> None:
    card, problems = parse("title: A card", slug="a_card")
    assert problems == ()
    assert card == Card(slug="a_card", title="A card")
    assert card.sections == {}


def test_a_problem_prints_its_place_and_its_mend() -> None:
    (problem,) = problems_of("title: A card\nyear: '2017'\n")
    assert str(problem) == (
        "notes/a_card.yaml:2:7: error: year: text stands here, but this is a whole number. Mend: write year: 2017."
    )
    assert problem.as_dict() == {
        "message": "text stands here, but this is a whole number.",
        "mend": "write year: 2017.",
        "severity": "error",
        "file": "notes/a_card.yaml",
        "line": 2,
        "column": 7,
        "field": "year",
    }


# What is wrong -> the text after `title: T`, then line:column field, a part of the message, a part of the mend.
BAD_FIELDS = {
    "a year as text": ("year: '2017'", "2:7 year", "whole number", "write year: 2017."),
    "a year in words": ("year: in 2017", "2:7 year", "whole number", "write year: 2017."),
    "a year as a fraction": ("year: 2017.5", "2:7 year", "whole number", "write year: 2017."),
    "a year in the far future": ("year: 20177", "2:7 year", "20177 is not a year", "four digits"),
    "a year before printing": ("year: 17", "2:7 year", "17 is not a year", "four digits"),
    "a kind that does not exist": ("kind: papre", "2:7 kind", "'papre'", "write kind: paper."),
    "a status that does not exist": ("status: done", "2:9 status", "'queued', 'reading' or 'read'", "one of"),
    "a day that does not exist": ("added: 2026-02-30", "2:8 added", "not a day", "year-month-day"),
    "a day that is a number": ("added: 2026", "2:8 added", "a number stands here", "year-month-day"),
    "a day with an hour": ("added: 2026-02-03 10:00:00", "2:8 added", "a date stands here", "year-month-day"),
    "a single tag without brackets": ("tags: foo", "2:7 tags", "a list", "write tags: [foo]."),
    "a single tag with a colon": ("tags: 'a: b'", "2:7 tags", "a list", 'write tags: ["a: b"].'),
    "tags as a mapping": ("tags: {a: b}", "2:7 tags", "a mapping stands here", "write tags: [...]."),
    "a tag that YAML reads as a number": ("tags: [a, 2020]", "2:11 tags[1]", "2020 as a number", 'write "2020".'),
    "a tag that YAML reads as no": ("tags: [no]", "2:8 tags[0]", "no as a yes-or-no value", 'write "no".'),
    "an empty tag": ("tags: ['']", "2:8 tags[0]", "empty", "delete"),
    "an author that is a mapping": ("authors: [{name: A}]", "2:11 authors[0]", "a mapping", "in quotes"),
    "a related card without brackets": ("related: mixup", "2:10 related", "a list", "[{card: mixup}]"),
    "a related card by name alone": ("related: [mixup]", "2:11 related[0]", "names for its parts", "{card: mixup}"),
    "a related card that is not a slug": (
        "related: [{card: Mix Up}]",
        "2:18 related[0].card",
        "not a slug",
        "write mix_up.",
    ),
    "a related card that is not named": ("related: [{why: x}]", "2:11 related[0].card", "missing", "`card: ...`"),
    "a claim without brackets": ("claims: It works", "2:9 claims", "a list", "[{says: It works}]"),
    "a check without a dot": (
        "claims: [{says: It works, check: mixup}]",
        "2:34 claims[0].check",
        "does not name a check",
        "gumbel_softmax.one_hot_limit",
    ),
    "a correction without the right word": (
        "corrections: [{said: a}]",
        "2:15 corrections[0].right",
        "missing",
        "`right: ...`",
    ),
    "a demo that is not a slug": ("demos: [Mixup-2]", "2:9 demos[0]", "not a slug", "write mixup_2."),
    "links that are an address": (
        "links: https://a.org",
        "2:8 links",
        "names and addresses",
        'links: {url: "https://a.org"}',
    ),
    "an arXiv id that YAML reads as a number": (
        "links:\n  arxiv: 1611.01140",
        "3:10 links.arxiv",
        "1611.01140 as a number",
        'write arxiv: "1611.01140".',
    ),
    "an arXiv id with a digit too few": ("links: {arxiv: '1611.011'}", "2:16 links.arxiv", "not an arXiv id", "alone"),
    "an arXiv id of a thirteenth month": ("links: {arxiv: '1613.01144'}", "2:16 links.arxiv", "not an arXiv", "alone"),
    "an arXiv address instead of an id": (
        "links: {arxiv: 'https://arxiv.org/abs/1611.01144v2'}",
        "2:16 links.arxiv",
        "not an arXiv id",
        'write arxiv: "1611.01144v2".',
    ),
    "a DOI address instead of a DOI": (
        "links: {doi: 'https://doi.org/10.1109/5.771073'}",
        "2:14 links.doi",
        "not a DOI",
        "write doi: 10.1109/5.771073.",
    ),
    "a DOI without a prefix": ("links: {doi: abc}", "2:14 links.doi", "not a DOI", "write the DOI alone"),
    "an address without its scheme": (
        "links: {code: github.com/a/b}",
        "2:15 links.code",
        "neither https:// nor http://",
        "write code: https://github.com/a/b.",
    ),
    "an address that is a script": ("links: {url: 'javascript:x'}", "2:14 links.url", "neither", "starting with https"),
    "an address with a broken host": ("links: {url: 'http://[x'}", "2:14 links.url", "neither", "starting with https"),
    "a section that is a mapping": ("Key: {a: b}", "2:6 Key", "a mapping stands here", "`Key: |`"),
    "a section that is a number": ("Key: 42", "2:6 Key", "42 as a number", 'write Key: "42".'),
    "a title in Chinese that is a list": ("title_zh: [a]", "2:11 title_zh", "a list stands here", "in quotes"),
    "LaTeX that lost a backslash in double quotes": ('venue: "\\beta"', "2:8 venue", "U+0008", "single quotes"),
}
# The same, for what the rules of single fields cannot know.
BAD_FILES = {
    "a topic that the library lacks": ("topic: sampel", "2:8 topic", "'sampel' is not", "`topic: sampling`"),
    "a topic by its Chinese name": ("topic: 采样", "2:8 topic", "'采样' is not", "`topic: sampling`"),
    "a topic like no other": ("topic: xyz", "2:8 topic", "'xyz' is not", "(sampling, augmentation,"),
    "a duplicate key": ("year: 2017\nyear: 2018", "3:1 year", "stands already in line 2", "keep one"),
    "a duplicate key in an entry": (
        "related:\n  - card: a\n    card: b",
        "4:5 related[0].card",
        "already in line 3",
        "keep one",
    ),
    "a key that is a list": ("[a, b]: c", "2:1 ", "a list stands where a key", "in quotes"),
    "a bullet with a colon": ("Key:\n  - one\n  - Note: two", "4:5 Key", "a mapping of this bullet", "in quotes"),
}


@pytest.mark.parametrize("case", [*BAD_FIELDS, *BAD_FILES])
def test_what_is_wrong_in_a_field_is_explained_and_costs_no_more_than_that(case: str) -> None:
    line, place, message, mend = (BAD_FIELDS | BAD_FILES)[case]
    card, problems = parse(f"title: T\n{line}\nIdeas: still here\n", slug="a_card")
    (problem,) = problems
    assert f"{problem.line}:{problem.column} {problem.field}" == place
    assert problem.severity == "error"
    assert message in problem.message
    assert mend in problem.mend
    assert card is not None
    assert (card.title, card.Ideas) == ("T", "still here")


BAD_TITLES = {
    "a title that is a number": ("title: 2048", "1:8", "2048 as a number", 'write title: "2048".'),
    "a title that is yes": ("title: Yes", "1:8", "Yes as a yes-or-no value", 'write title: "Yes".'),
    "a title that is a date": ("title: 2020-01-01", "1:8", "a date", 'write title: "2020-01-01".'),
    "a title that is a list": ("title: [a]", "1:8", "a list stands here", "in quotes"),
    "an empty title": ("title: ''", "1:8", "empty", "write something"),
    "a title that is null": ("year: 2017\ntitle:", "2:7", "missing", "write `title: ...`"),
    "no title": ("year: 2017", "1:1", "missing", "write `title: ...`"),
}


@pytest.mark.parametrize("case", BAD_TITLES)
def test_without_a_proper_title_there_is_no_card(case: str) -> None:
    text, place, message, mend = BAD_TITLES[case]
    card, problems = parse(text, slug="a_card")
    assert card is None
    (problem,) = problems
    assert f"{problem.line}:{problem.column}" == place
    assert problem.field == "title"
    assert message in problem.message
    assert mend in problem.mend


UNREADABLE = {
    "an empty file": ("", "1:1", "empty", "title"),
    "a file of comments": ("# nothing\n", "1:1", "empty", "title"),
    "a file that is a list": ("- a\n- b\n", "1:1", "holds a list", "title"),
    "a file that is prose": ("just words\n", "1:1", "holds text", "space follows each colon"),
    "a colon in a plain title": ("title: Foo: bar\n", "1:11", "a colon and a space", 'write title: "Foo: bar".'),
    "a colon in a plain claim": (
        "claims:\n  - says: a: b\n",
        "2:12",
        "a colon and a space",
        'write - says: "a: b".',
    ),
    "a colon after LaTeX": (r"title: \tau: b", "1:12", "a colon and a space", r"write title: '\tau: b'."),
    "a key indented too deep": ("title: a\n  Key: b\n", "2:6", "indented deeper", "same column"),
    "a key without its space": ("title:a\nKey: b\n", "2:4", "the line above", "a space after its key"),
    "a line without a colon": ("title: a\nfoo bar\nKey: b\n", "2:1", "neither `key: value`", "a colon"),
    "a tab as indentation": ("title: a\nrelated:\n\t- card: b\n", "3:1", "a tab", "spaces"),
    "a tab in a section": ("title: a\nKey: |\n\tfoo\n", "3:1", "a tab", "spaces"),
    "a tab before a key": ("title: a\n\tyear: 3\n", "2:1", "a tab", "spaces"),
    "an open quote": ("year: 2017\ntitle: 'it\n", "2:8", "never closed", "close it"),
    "an unknown escape": ('title: "\\qed"\n', "1:9", "starts an escape", "single quotes"),
    "an open bracket": ("title: a\ntags: [b, c\nyear: 2017\n", "2:7", "the [", "close it"),
    "an entry missing between commas": ("title: a\ntags: [b, , c]\n", "2:11", "missing", "comma"),
    "text after a bracket": ("title: [Draft] on X\n", "1:16", "closing quote or bracket", '"[Draft] on X"'),
    "text after a quote": ("title: 'A' is B\n", "1:12", "closing quote or bracket", "\"'A' is B\""),
    "a dash out of line": ("tags:\n  - a\n - b\n", "3:2", "indentation", "same column"),
    "a dash after a key": ("tags: - a\n", "1:7", "a list with dashes", "a line of its own"),
    "text after a bar": ("Key: |foo\n", "1:7", "text follows |", "next line"),
    "a title in bold": ("title: **bold**\n", "1:8", "cannot start with *", 'write title: "**bold**".'),
    "a title with an at sign": ("title: @home\n", "1:8", "cannot start with @", 'write title: "@home".'),
    "a tag that starts with a star": ("tags: [a, *]\n", "1:11", "start with *", "put what starts with * in quotes"),
    "a title with two exclamation marks": ("title: !wow! x\n", "1:8", "cannot start with !", 'write title: "!wow! x".'),
    "a title with a backquote": ("title: `x`\n", "1:8", "cannot start with `", 'write title: "`x`".'),
    "an anchor": ("title: &here a\n", "1:8", "&here", "quotes"),
    "an alias": ("title: *here\n", "1:8", "*here", "quotes"),
    "a tag": ("title: !important\n", "1:8", "!important", "quotes"),
    "a Python object": ("title: !!python/object:os.system a\n", "1:8", "python/object", "quotes"),
    "two documents": ("title: a\n---\ntitle: b\n", "2:1", "second document", "its own"),
    "a document after an end": ("title: a\n...\ntitle: b\n", "3:1", "second document", "its own"),
    "a control character": ("title: a\nKey: a\x07b\n", "2:7", "U+0007", "delete"),
    "a control character at a line's start": ("title: a\n\x07\n", "2:1", "U+0007", "delete"),
    "half of a surrogate pair": ("title: \ud800\n", "1:8", "U+D800", "delete"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_read_is_explained(case: str) -> None:
    text, place, message, mend = UNREADABLE[case]
    card, problems = parse(text, slug="a_card")
    assert card is None
    (problem,) = problems
    assert f"{problem.line}:{problem.column}" == place
    assert message in problem.message
    assert mend in problem.mend


@pytest.mark.parametrize("case", UNREADABLE)
def test_without_libyaml_the_same_is_said_of_the_same_line(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, *_ = UNREADABLE[case]
    (fast,) = problems_of(text)
    monkeypatch.setattr(syntax, "Loader", yaml.SafeLoader)
    (slow,) = problems_of(text)
    assert (slow.message, slow.mend, slow.line) == (fast.message, fast.mend, fast.line)


def test_every_problem_of_a_card_is_told_at_once_in_the_order_of_its_lines() -> None:
    text = "title: a\nlinks: {arxiv: 1611.01144, url: x}\nyear: new\nwhat: 1\ntags: [b, 3]\n"
    card, problems = parse(text, slug="A Card")
    assert [problem.field for problem in problems] == ["slug", "links.arxiv", "links.url", "year", "what", "tags[1]"]
    assert card == Card(slug="a_card", title="a", tags=("b",), extra={"what": 1})


def test_a_bad_file_name_is_told_and_the_card_goes_under_the_nearest_slug() -> None:
    card, (problem,) = parse("title: a", slug="Gumbel-Softmax (v2)")
    assert card is not None
    assert card.slug == "gumbel_softmax_v2"
    assert problem.mend == "rename the file to gumbel_softmax_v2.yaml."


def test_a_file_name_without_any_latin_letter_gives_no_card_but_all_problems() -> None:
    card, problems = parse("title: a\nyear: x", slug="混合")
    assert card is None
    assert [problem.field for problem in problems] == ["slug", "year"]


def test_an_unknown_key_is_a_warning_with_the_nearest_field_and_is_kept() -> None:
    text = "title: a\nmethodolgy: b\nrating: {stars: [5, null], 2: x}\nrelated: [{card: c, whhy: d}]\n"
    card, problems = parse(text, slug="a_card")
    assert [(p.severity, p.line, p.column, p.field) for p in problems] == [
        ("warning", 2, 1, "methodolgy"),
        ("warning", 3, 1, "rating"),
        ("warning", 4, 21, "related[0].whhy"),
    ]
    assert "`Methodology: ...`" in problems[0].mend
    assert "`why: ...`" in problems[2].mend
    assert card is not None
    assert card.extra == {"methodolgy": "b", "rating": {"stars": [5, None], "2": "x"}}
    assert parse(dump(card), slug="a_card")[0] == card
    assert "whhy: d" in dump(card)


@pytest.mark.parametrize(
    "latex", [r"\tau", r"\theta", r"\times 2", r"\text{x}", r"\to", r"\nu", r"\nabla f", r"\neq", r"\not x"]
)
def test_latex_that_double_quotes_turn_into_white_space_is_a_warning(latex: str) -> None:
    (problem,) = problems_of(f'title: a\nvenue: "${latex}$"\n')
    assert (problem.severity, problem.line, problem.field) == ("warning", 2, "venue")
    assert "single quotes" in problem.mend
    assert problems_of(f"title: a\nvenue: '${latex}$'\nKey: \"a\\tb\\nnew\"\n") == ()


def test_keys_named_like_the_parts_of_the_model_are_unknown_keys() -> None:
    card, problems = parse("title: a\nslug: b\nextra: c\n", slug="a_card")
    assert card == Card(slug="a_card", title="a", extra={"slug": "b", "extra": "c"})
    assert [problem.severity for problem in problems] == ["warning", "warning"]


def test_bullets_are_accepted_as_a_section() -> None:
    text = """\
title: a
Key:
  - one
  - two:
      - 2017
      - yes
      - - deepest
  - "three: a colon"
  - |
    four
    on two lines
  -
Exps: []
"""
    card, problems = parse(text, slug="a_card")
    assert problems == ()
    assert card is not None
    assert card.Key == ("- one\n- two\n  - 2017\n  - yes\n    - deepest\n- three: a colon\n- four\n  on two lines")
    assert card.Exps == ""


def test_nothing_counts_as_empty() -> None:
    names = [name for name in Card.model_fields if name not in ("slug", "title", "extra")]
    text = "title: a\n" + "".join(f"{name}:\n" for name in names)
    assert parse(text, slug="a_card") == (Card(slug="a_card", title="a"), ())
    text = "title: a\ntags: [b, null]\nrelated: [{card: c, why: }, ~]\nlinks: {url: }\n"
    assert parse(text, slug="a_card") == (
        Card(slug="a_card", title="a", tags=("b",), related=(Related(card="c"),)),
        (),
    )


def test_a_topic_is_judged_by_the_library_it_stands_in() -> None:
    assert problems_of("title: a\ntopic: robotics\n", topics={"robotics": "机器人"}) == ()
    (problem,) = problems_of("title: a\ntopic: sampling\n", topics={"robotics": "机器人"})
    assert "(robotics)" in problem.mend


def test_an_old_arxiv_id_and_a_versioned_one_are_accepted() -> None:
    for arxiv in ("hep-th/9901001", "math.GT/0309136", "1611.01144v5", "0704.0001"):
        assert problems_of(f"title: a\nlinks: {{arxiv: '{arxiv}'}}\n") == ()


def test_a_byte_order_mark_and_windows_line_ends_are_accepted() -> None:
    card, problems = parse("\ufefftitle: a\r\nKey: |\r\n  b\r\n  c\r\n", slug="a_card")
    assert problems == ()
    assert card == Card(slug="a_card", title="a", Key="b\nc")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_and_not_followed(opening: str) -> None:
    (problem,) = problems_of("title: a\nfoo:\n " + opening * 100_000)
    assert "nested" in problem.message


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    (problem,) = problems_of("\n".join(lines))
    assert (problem.line, problem.column) == (1, 5)


def test_what_else_a_card_names_is_told_with_its_place_in_the_file() -> None:
    text = """\
title: a
related:
  - {card: 3}
  - ~
  - {why: x, card: b}
demos: [a, a, B, c, ~]
claims:
  - {says: x}
  - {says: y, check: a.b}
  - {says: z, check: not a check}
  - {says: z, check: ~}
"""
    assert read(text, slug="a").named == (
        ("b", 5, 20, "related[1].card"),
        ("a", 6, 9, "demos[0]"),
        ("a", 6, 12, "demos[1]"),
        ("c", 6, 18, "demos[3]"),
        ("a.b", 9, 22, "claims[1].check"),
    )
    assert read("title: a\nrelated: b\nclaims: {says: x}\n", slug="a").named == ()


def test_a_number_of_a_hundred_thousand_digits_is_kept_as_text() -> None:
    for digits in ("9" * 100_000, "1" + ":59" * 50_000):
        card, _ = parse(f"title: a\nfoo: {digits}\n", slug="a_card")
        assert card is not None
        assert card.extra["foo"] == digits


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:# -\t\n[]{},'\"|>&*!%@`?\\0\x07é中🎓")))
def test_any_text_is_read_or_explained(text: str) -> None:
    for whole in (text, f"title: a\nKey: {text}", f"title: a\nrelated:\n  {text}"):
        card, problems = parse(whole, slug="a_card")
        assert card or any(problem.severity == "error" for problem in problems)
        lines = whole.splitlines()
        for problem in problems:
            assert 1 <= problem.line <= len(lines) + 1
            assert problem.column >= 1


def test_a_card_made_in_python_keeps_the_same_rules() -> None:
    with pytest.raises(ValidationError):
        Card(slug="Not a slug", title="a")
    with pytest.raises(ValidationError):
        Card(slug="a", title="a", links={"url": "javascript:x"})
    with pytest.raises(ValidationError, match="Key is a field of a card"):
        Card(slug="a", title="a", extra={"Key": "b"})
    with pytest.raises(ValidationError):
        Card(slug="a", title="a", status="done")  # type: ignore[arg-type]


def test_one_line_fields_are_one_line_and_words_are_distinct() -> None:
    card = Card(slug="a", title=" A\n title  here ", tags=("x", " x ", "y"))
    assert card.title == "A title here"
    assert card.tags == ("x", "y")


def test_sections_lose_the_blank_lines_around_them_and_nothing_else() -> None:
    assert Card(slug="a", title="a", Key="\n \n    code  \n\n\tb\n \n").Key == "    code  \n\n\tb"


def test_a_dump_reads_like_a_card_written_by_hand() -> None:
    card, _ = parse(COMPLETE, slug="gumbel_softmax")
    assert card is not None
    assert (
        dump(card)
        == """\
title: Categorical Reparameterization with Gumbel-Softmax
title_zh: 用 Gumbel-Softmax 做离散重参数化
kind: paper
authors: [Eric Jang, Shixiang Gu, Ben Poole]
year: 2017
venue: ICLR 2017
topic: sampling
tags: [reparameterization, discrete]
aliases: [Gumble softmax, 耿贝尔 softmax]
status: read
added: 2026-11-21
links: {arxiv: '1611.01144', doi: 10.48550/arXiv.1611.01144, code: 'https://example.org/code'}
demos: [gumbel_softmax]
related:
  - {card: mixup, why: 'mixes labels, too'}
claims:
  - says: Samples approach one-hot vectors as the temperature falls.
    check: gumbel_softmax.one_hot_limit
corrections:
  - {said: the noise carries the parameters, right: the noise is parameter-free, why: eq. (1)}
unverified: [venue]
summary_zh: 两三句中文摘要。
Key: |
  Take the **arg max** away: $y_i = \\exp((\\log \\pi_i + g_i) / \\tau)$.
Notes: |
  Anything else.
"""
    )


def test_a_section_of_a_reader_s_own_is_written_as_a_block_too() -> None:
    text = "title: a\nkind: paper\nstatus: queued\nConclusion: |\n  b\n\n    c\n"
    card, _ = parse(text, slug="a_card")
    assert card is not None
    assert dump(card) == text


# fmt: off
PIECES = [
    "a", "B", "é", "中文", "：", "🎓", "\u3000", "\u2028", "\ufeff", "\xa0", "\u200b", "\\frac{a}{b}", "$x_i$",
    " ", "  ", "\t", "\n", "\n\n", " \n", ": ", " #", "#", "- ", "? ", "---", "...", "'", '"', "\\", "|", ">", ",",
    "&a", "*b", "!c", "%", "@", "`", "[", "]", "{", "}", "yes", "null", "~", "2017", "1.5", "2020-01-01", "=", "<<",
]
# fmt: on
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"])
TEXTS = st.lists(st.sampled_from(PIECES) | CHARACTERS, max_size=12).map("".join)
WORDS = TEXTS.filter(lambda text: text.strip())
SLUGS = st.from_regex(r"[a-z0-9]{1,3}(_[a-z0-9]{1,3}){0,2}", fullmatch=True)
LEAVES = TEXTS | st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.dates()
PLAIN = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=5
)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=3).map(tuple)


LINKS = st.fixed_dictionaries(
    {},
    optional={
        "arxiv": st.sampled_from(["1611.01144", "hep-th/9901001"]),
        "doi": st.just("10.1109/5.771073"),
        "code": st.just("https://example.org/a?b=c#d"),
        "网页": st.just("http://example.org/中文"),
    },
)
CARDS = st.builds(
    Card,
    slug=st.just("a_card"),
    title=WORDS,
    title_zh=TEXTS,
    kind=st.sampled_from(["paper", "method", "journal"]),
    authors=tuples(WORDS),
    year=st.none() | st.integers(1600, 2100),
    venue=TEXTS,
    topic=st.none() | st.sampled_from(list(TOPICS)),
    tags=tuples(WORDS),
    aliases=tuples(WORDS),
    status=st.sampled_from(["queued", "reading", "read"]),
    added=st.none() | st.dates(),
    links=LINKS,
    demos=tuples(SLUGS),
    related=tuples(st.builds(Related, card=SLUGS, why=TEXTS)),
    claims=tuples(st.builds(Claim, says=WORDS, check=st.none() | SLUGS.map(lambda slug: f"{slug}.holds"))),
    corrections=tuples(st.builds(Correction, said=WORDS, right=WORDS, why=TEXTS)),
    unverified=tuples(WORDS),
    summary_zh=TEXTS,
    **dict.fromkeys(SECTIONS, TEXTS),
)


@settings(max_examples=300, deadline=None)
@given(CARDS)
@example(Card(slug="a_card", title="a", Notes="\ufeff\ne"))  # only double quotes can hold it: \ne is no lost LaTeX
def test_a_dumped_card_is_read_back_as_it_was_without_a_problem(card: Card) -> None:
    assert parse(dump(card), slug="a_card") == (card, ())


@settings(deadline=None)
@given(
    st.dictionaries(st.just("Conclusion") | TEXTS.filter(lambda key: key not in Card.model_fields), PLAIN, max_size=4)
)
def test_unknown_keys_of_any_plain_value_are_read_back(extra: dict[str, Any]) -> None:
    card = Card(slug="a_card", title="a", extra=extra)
    again, problems = parse(dump(card), slug="a_card")
    assert again == card
    assert all(problem.severity == "warning" for problem in problems)


class EditorLoader(yaml.SafeLoader):
    """YAML as editors read it for a JSON Schema: a date is a string."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith("timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def fits_schema(text: str) -> bool:
    validator = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker(["date"]))
    return validator.is_valid(yaml.load(text, Loader=EditorLoader))


def test_the_schema_is_a_schema_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    fields = schema()["properties"]
    assert list(fields) == [name for name in Card.model_fields if name not in ("slug", "extra")]
    assert all(field["description"] for field in fields.values())


def test_the_schema_accepts_every_shipped_card() -> None:
    texts = {path.stem: path.read_text("utf-8") for path in NOTES.glob("[!_.]*.yaml")}
    assert texts
    assert [slug for slug, text in texts.items() if not fits_schema(text)] == []


def test_the_schema_accepts_what_parse_accepts() -> None:
    for text in (
        COMPLETE,
        "title: a\nunknown: 1\n",
        "title: a\nKey:\nrelated:\n",
        "title: a\nrelated: [{card: b, why: , x: 1}]\n",
        "title: a\nKey: [a, 1, [b], {c: [d, e]}]\n",
    ):
        assert not [p for p in problems_of(text) if p.severity == "error"]
        assert fits_schema(text)


BEYOND_A_SCHEMA = {"LaTeX that lost a backslash in double quotes", "an address with a broken host"}


@pytest.mark.parametrize("case", sorted(BAD_FIELDS.keys() - BEYOND_A_SCHEMA))
def test_the_schema_refuses_what_parse_refuses_in_a_field(case: str) -> None:
    assert not fits_schema(f"title: T\n{BAD_FIELDS[case][0]}\n")


def test_the_schema_refuses_a_bad_title_an_unknown_topic_and_a_bullet_with_a_colon() -> None:
    for text in ("year: 2017", "title: 2048", "title:", "title: ''", "title: a\ntopic: sampel"):
        assert not fits_schema(text)
    assert not fits_schema("title: a\nKey: [{Note: two}]")


def test_the_topics_of_a_library_are_read() -> None:
    assert read_topics("topics: {robotics: 机器人}\n") == ({"robotics": "机器人"}, ())
    assert read_topics("topics:\n") == (None, ())


@pytest.mark.parametrize(
    ("text", "place", "mend"),
    [
        ("topics: [robotics]\n", "1:9 topics", "`slug: Chinese name`"),
        ("topics: {Robo tics: 机器人}\n", "1:21 topics.Robo tics", "`robo_tics: "),
        ("topics: {robotics: 1}\n", "1:20 topics.robotics", "`robotics: "),
        ("topic: {robotics: 机器人}\n", "1:8 topic", "`topics`"),
        ("topics: {a: b\n", "1:9 ", "close it"),
        ("", "1:1 ", "`topics:`"),
    ],
)
def test_what_is_wrong_in_the_topics_of_a_library_is_explained(text: str, place: str, mend: str) -> None:
    topics, (problem,) = read_topics(text)
    assert not topics
    assert f"{problem.line}:{problem.column} {problem.field}" == place
    assert mend in problem.mend
