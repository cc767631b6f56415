"""Search over small libraries in a temporary folder; what a reader types, and the cards that answer."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.cli import main
from kb.library import SHIPPED, Library
from kb.query import parse
from kb.search import _index, index, prepare, search
from kb.search.typos import Vocabulary
from tests.kb.test_query import TEXTS

pytestmark = pytest.mark.usefixtures("cache")

CARDS = {
    "gumbel_softmax": """
        title: Categorical Reparameterization with Gumbel-Softmax
        authors: [Eric Jang, Shixiang Gu, Ben Poole]
        year: 2017
        venue: ICLR 2017
        topic: sampling
        tags: [discrete variables, straight-through]
        aliases: [Gumble softmax, 耿贝尔]
        status: read
        added: 2026-11-02
        demos: [gumbel_softmax]
        related: [{card: knowledge_distillation}]
        claims: [{says: Samples approach one-hot vectors., check: gumbel_softmax.one_hot_limit}]
        Methodology: Gumbel noise and a temperature $\\tau$; the weight is $\\lambda$ here.
        """,
    "knowledge_distillation": """
        title: Distilling the Knowledge in a Neural Network
        title_zh: 知识蒸馏
        authors: [Geoffrey Hinton]
        year: 2015
        topic: compression
        tags: [soft targets]
        status: read
        added: 2026-11-03
        links: {code: "https://example.org/code"}
        claims: [{says: Soft targets carry more., check: softmax_temperature.soft_targets}]
        Key: 教师网络把知识传给学生，温度越高目标越软。A distilled student learns from Müller's softened labels.
        """,
    "moco": """
        title: Momentum Contrast
        title_zh: 用动量对比学习视觉表示
        year: 2020
        topic: representation
        status: queued
        added: 2026-11-01
        Exps: The loss falls with the size of the queue; 60.6 % on ImageNet.
        """,
    "supcon": """
        title: Supervised Contrastive Learning
        aliases: [监督对比学习]
        year: 2020
        topic: representation
        tags: [straight-through]
        related: [{card: moco}]
        claims: [{says: Classes cluster.}]
        Methodology: The loss pulls views of one class together.
        Exps: A weight λ of one half.
        """,
    "label_smoothing": """
        title: Label smoothing
        title_zh: 标签平滑
        status: queued
        Notes: Networking without a year, from the low flow of notes.
        """,
}


def write(folder: Path, cards: dict[str, str]) -> None:
    for slug, text in cards.items():
        (folder / f"{slug}.yaml").write_text("\n".join(line.strip() for line in text.strip().splitlines()))


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    write(tmp_path, CARDS)
    return tmp_path


@pytest.fixture
def library(notes: Path) -> Library:
    opened = Library.open(notes)
    assert opened.problems == ()
    return opened


def found(library: Library, query: str, **how) -> list[str]:
    return [hit.slug for hit in search(library, query, **how).hits]


@pytest.mark.parametrize(
    ("query", "slugs"),
    [
        ("reparameterization", {"gumbel_softmax"}),
        ("GUMBEL", {"gumbel_softmax"}),
        ("distill", {"knowledge_distillation"}),
        ("distillation", {"knowledge_distillation"}),  # the card has distilling and distilled
        ("muller", {"knowledge_distillation"}),
        ("hinton", {"knowledge_distillation"}),
        ("discrete", {"gumbel_softmax"}),
        ("compression", {"knowledge_distillation"}),
        ("模型压缩", {"knowledge_distillation"}),  # the topic's Chinese name
        ("contrast loss", {"moco", "supcon"}),
        ("moco OR hinton", {"moco", "knowledge_distillation"}),
        ("loss -queue", {"supcon"}),
        ("-loss", {"gumbel_softmax", "knowledge_distillation", "label_smoothing"}),
        ('"neural network"', {"knowledge_distillation"}),
        ('"network neural"', set()),
        ("label-smoothing", {"label_smoothing"}),
        ("repar*", {"gumbel_softmax"}),
        ("(gumbel OR hinton) temperature", {"gumbel_softmax"}),
        ("\\lambda", {"gumbel_softmax", "supcon"}),
        ("lambda", {"gumbel_softmax", "supcon"}),
        ("λ", {"gumbel_softmax", "supcon"}),
        ("Λ", {"gumbel_softmax", "supcon"}),
        ("τ", {"gumbel_softmax"}),
        ("\\frac", {"gumbel_softmax", "knowledge_distillation", "moco", "supcon", "label_smoothing"}),
        ("知识", {"knowledge_distillation"}),
        ("识蒸", {"knowledge_distillation"}),
        ("蒸", {"knowledge_distillation"}),
        ("知識蒸餾", {"knowledge_distillation"}),  # traditional
        ("對比學習", {"moco", "supcon"}),
        ("对比学习 loss", {"moco", "supcon"}),
        ("对比学习loss", {"moco", "supcon"}),
        ("监督对比学习", {"supcon"}),
        ("标签平滑", {"label_smoothing"}),
        ("温度越高目标", {"knowledge_distillation"}),
        ("ＩｍａｇｅＮｅｔ", {"moco"}),
        ("２０２０", set()),  # a year is a field, not a word
        ("title:contrastive", {"moco", "supcon"}),
        ("title:supervised", {"supcon"}),
        ("label-smoo", {"label_smoothing"}),
        ("labelsmoothing", {"label_smoothing"}),
        ("gumbel soft max", {"gumbel_softmax"}),
        ("mo co", {"moco"}),  # the slug
        ("key:teach*", set()),
        ("key:stud*", {"knowledge_distillation"}),
        ("lable-smoothing", {"label_smoothing"}),
        ("title:loss", set()),
        ("method:loss", {"supcon"}),
        ("exps:loss", {"moco"}),
        ("key:教师", {"knowledge_distillation"}),
        ("author:jang", {"gumbel_softmax"}),
        ('author:"eric jang"', {"gumbel_softmax"}),
        ('author:"jang eric"', set()),
        ("alias:gumble", {"gumbel_softmax"}),
        ("venue:iclr", {"gumbel_softmax"}),
        ("tag:straight-through", {"gumbel_softmax", "supcon"}),
        ('tag:"discrete variables"', {"gumbel_softmax"}),
        ('tag:"discrete"', set()),
        ("topic:representation", {"moco", "supcon"}),
        ("topic:repr*", {"moco", "supcon"}),
        ("topic:采样", {"gumbel_softmax"}),
        ("status:queued", {"moco", "supcon", "label_smoothing"}),
        ("year:2020", {"moco", "supcon"}),
        ("year:2015..2017", {"gumbel_softmax", "knowledge_distillation"}),
        ("year:>2017", {"moco", "supcon"}),
        ("year:<2017", {"knowledge_distillation"}),
        ("added:2026-11-02..", {"gumbel_softmax", "knowledge_distillation"}),
        ("demo:gumbel_softmax", {"gumbel_softmax"}),
        ("has:demo", {"gumbel_softmax"}),
        ("has:code", {"knowledge_distillation"}),
        ("has:claims", {"gumbel_softmax", "knowledge_distillation", "supcon"}),
        ("is:orphan", {"label_smoothing"}),
        ("links-to:moco", {"supcon"}),
        ("kind:paper year:2020 loss", {"moco", "supcon"}),
        ("claim:failing", {"knowledge_distillation"}),
        ("claim:holding", {"gumbel_softmax"}),
        ("claim:unmeasured", set()),
    ],
)
def test_a_query_finds_exactly_the_cards_that_answer_it(library, query, slugs):
    verdicts = {"gumbel_softmax.one_hot_limit": True, "softmax_temperature.soft_targets": False}
    results = search(library, query, verdicts=verdicts)
    assert {hit.slug for hit in results.hits} == slugs
    assert results.total == len(slugs)
    assert results.notices == ()


@pytest.mark.parametrize(
    ("typed", "first", "meant"),
    [
        ("nueral", "knowledge_distillation", "neural"),
        ("contrstive", "supcon", "contrastive"),
        ("mometnum", "moco", "momentum"),
        ("reparametrisation", "gumbel_softmax", "reparameterization"),
        ("huinton", "knowledge_distillation", "hinton"),
    ],
)
def test_a_mistyped_word_finds_what_was_meant_and_says_so(library, typed, first, meant):
    results = search(library, typed)
    assert results.hits[0].slug == first
    assert meant in results.suggestion
    assert any(why.via and why.via.startswith(f"{typed} → ") for why in results.hits[0].why)


def test_what_matches_as_typed_comes_before_what_matches_by_a_typo(tmp_path):
    body = "Key: the gumbel distribution, gumbel noise, gumbel trick"
    write(tmp_path, {f"card_{i}": f"title: Gumbel {i}\n{body}" for i in range(5)})
    write(
        tmp_path, {"misspelt": f"title: A long title about other things\nNotes: it says gumble once. {'word ' * 200}"}
    )
    results = search(Library.open(tmp_path), "gumble")
    assert results.hits[0].slug == "misspelt"
    assert results.total == 6
    assert results.suggestion is None
    assert results.hits[1].why[0].via == "gumble → gumbel"


def test_short_words_numbers_and_chinese_are_not_corrected(library):
    assert found(library, "nb") == []
    assert found(library, "61") == []
    assert found(library, "蒸流") == []


def test_a_word_that_stands_in_the_cards_is_not_taken_for_another(library):
    assert found(library, "flow") == ["label_smoothing"]


@pytest.mark.parametrize("typed", ["c", "ca", "cate", "categ", "categoric", "categorical"])
def test_the_last_word_is_found_while_it_is_typed(library, typed):
    assert "gumbel_softmax" in found(library, typed)


def test_a_finished_word_comes_before_words_that_begin_with_it(tmp_path):
    write(tmp_path, {"networks": "title: Networks of networks", "net": "title: A net"})
    assert found(Library.open(tmp_path), "net") == ["net", "networks"]


def test_every_ending_of_a_short_beginning_is_found(tmp_path):
    write(tmp_path, {f"card_{i}": f"title: Card\nKey: x{i:03}word" for i in range(120)})
    assert search(Library.open(tmp_path), "key:x*", limit=1).total == 120
    assert search(Library.open(tmp_path), "x", limit=1).total == 120


def test_quotes_ask_for_the_word_itself(tmp_path):
    write(tmp_path, {"networks": "title: Networks", "net": "title: A net", "nit": "title: A nit"})
    assert found(Library.open(tmp_path), '"net"') == ["net"]


def test_a_question_need_not_find_its_small_words(library):
    assert found(library, "what is the momentum in this") == ["moco"]


def test_cards_with_some_of_the_words_are_shown_when_none_has_all_and_a_line_says_so(library):
    results = search(library, "temperature of momentum zebra")
    assert {hit.slug for hit in results.hits} == {"gumbel_softmax", "moco"}
    assert any("No card has all" in notice for notice in results.notices)


def test_of_a_long_question_cards_with_all_words_come_first_then_those_with_most(tmp_path):
    write(
        tmp_path,
        {
            "most": "title: Ensemble\nKey: a small network imitates an ensemble, ensemble of ensembles",
            "all": f"title: Other\nNotes: train {'word ' * 300} small network imitate ensemble",
            "few": "title: A network\nKey: trained",
        },
    )
    results = search(Library.open(tmp_path), "how to train a small network to imitate an ensemble")
    assert [hit.slug for hit in results.hits] == ["all", "most"]
    assert results.notices == ("One card has all of these words; those that have some of them follow.",)


def test_when_hardly_anything_answers_a_known_word_may_be_a_typo_too(tmp_path):
    cards = {"circle": "title: Circle loss", "lose": "title: To lose, losing, lost"}
    write(tmp_path, cards | {f"lose_{i}": "title: To lose something" for i in range(5)})
    results = search(Library.open(tmp_path), "circle lose")
    assert [hit.slug for hit in results.hits] == ["circle"]
    assert results.suggestion == "circle loss"


def test_a_card_whose_name_was_typed_comes_first(tmp_path):
    write(
        tmp_path,
        {
            "aet": "title: Transforming transformers, transformations\nKey: transform transformed transformer",
            "attention": f"title: Attention is all you need\naliases: [Transformer]\nKey: {'long text ' * 200}",
            "retina": f"title: Focal loss\naliases: [RetinaNet]\nKey: {'long text ' * 200}",
            "net": "title: The retina and a net",
        },
    )
    library = Library.open(tmp_path)
    assert found(library, "transformer")[0] == "attention"
    assert found(library, "transfomers")[0] == "attention"
    assert found(library, "retina net") == ["retina", "net"]
    assert marked(search(library, "retina net").hits[0].why[0]) == ["RetinaNet"]


def test_a_chinese_question_finds_the_card_that_has_its_words(library):
    assert found(library, "知识蒸馏的温度怎么选")[0] == "knowledge_distillation"


@pytest.mark.parametrize("typed", ["知识的蒸馏", "标签平滑和知识蒸馏", "知识蒸馏与标签平滑"])
def test_small_words_inside_a_run_of_chinese_need_not_stand_there(tmp_path, typed):
    write(tmp_path, {"both": "title: 知识蒸馏\nKey: 用标签平滑", "one": "title: 标签", "none": "title: 知识"})
    answers = search(Library.open(tmp_path), typed)
    assert [hit.slug for hit in answers.hits] == ["both"]
    assert answers.notices == ()
    assert {"知识", "蒸馏"} <= {*marked(answers.hits[0].why[0])} or "知识蒸馏" in marked(answers.hits[0].why[0])


def test_a_card_whose_name_was_typed_with_a_typo_comes_before_cards_with_those_very_words(tmp_path):
    lose = {f"lose_{i}": f"title: They lose {i} times in a circle, a circle, a circle" for i in range(2)}
    loss = {f"loss_{i}": f"title: One loss more, {i}" for i in range(5)}
    write(tmp_path, {"circle": "title: Circle loss"} | lose | loss)
    assert found(Library.open(tmp_path), "circle lose") == ["circle", "lose_0", "lose_1"]


@pytest.mark.parametrize("typed", ["efficent net", "Efficent Net", "efficent-net", "eficient net"])
def test_a_name_typed_in_two_may_have_a_typo_in_one_part(tmp_path, typed):
    cards = {
        "net": "title: EfficientNet",
        "other": "title: An efficient way, a net",
        "third": "title: Efficient and deep nets",
    }
    write(tmp_path, cards | {f"more_{i}": "title: A net" for i in range(4)})
    results = search(Library.open(tmp_path), typed)
    assert results.hits[0].slug == "net"
    assert marked(results.hits[0].why[0]) == ["EfficientNet"]
    assert results.hits[0].why[0].via == f"{typed.lower().replace(' ', '').replace('-', '')} → efficientnet"


@pytest.mark.parametrize(
    "typed", ["how does mixup work", "How does mixup work?", "what is mixup used for", "explain mixup"]
)
def test_the_verbs_of_a_question_need_not_be_found(tmp_path, typed):
    write(tmp_path, {"mixup": "title: mixup", "work": "title: The work that is used to explain"})
    assert found(Library.open(tmp_path), typed) == ["mixup"]


def test_such_verbs_are_words_where_nothing_is_asked(tmp_path):
    write(tmp_path, {"mixup": "title: mixup", "work": "title: mixup at work"})
    assert found(Library.open(tmp_path), "mixup work") == ["work"]
    assert found(Library.open(tmp_path), "why work") == ["work"]


@pytest.mark.parametrize(
    "typed",
    [
        "1611.01144",
        "1611.01144v5",
        "arXiv:1611.01144",
        "arxiv:1611.01144v2",
        "arxiv 1611.01144",
        "https://arxiv.org/abs/1611.01144",
        "http://www.arxiv.org/pdf/1611.01144v3.pdf",
        "arxiv.org/abs/1611.01144",
        "url:1611.01144",
        "10.1000/182",
        "doi:10.1000/182",
        "https://doi.org/10.1000/182",
        "https://github.com/ericjang/gumbel-softmax",
        "github.com/ericjang/gumbel-softmax",
        "url:ericjang",
    ],
)
def test_a_paper_is_found_by_its_number_or_address(tmp_path, typed):
    links = 'links: {arxiv: "%s", doi: %s, code: "https://github.com/%s"}'
    write(
        tmp_path,
        {
            "this": "title: Gumbel\n" + links % ("1611.01144", "10.1000/182", "ericjang/gumbel-softmax"),
            "that": "title: Concrete\n" + links % ("1611.00712", "10.1000/183", "another/gumbel"),
        },
    )
    results = search(Library.open(tmp_path), typed)
    assert [hit.slug for hit in results.hits] == ["this"]
    assert results.notices == ()
    assert [why.field for why in results.hits[0].why] == ["links"]


def test_nothing_is_found_and_nothing_suggested_for_nonsense(library):
    results = search(library, "zzzqqq")
    assert (results.hits, results.total, results.suggestion) == ((), 0, None)


def test_an_empty_query_is_every_card_newest_first_then_by_title(library):
    newest = ["knowledge_distillation", "gumbel_softmax", "moco", "label_smoothing", "supcon"]
    assert found(library, "") == newest
    assert found(library, "  ") == newest
    assert search(library, "").hits[0].why == ()


@pytest.mark.parametrize(
    ("sort", "slugs"),
    [
        ("title", ["gumbel_softmax", "knowledge_distillation", "label_smoothing", "moco", "supcon"]),
        ("year", ["knowledge_distillation", "gumbel_softmax", "moco", "supcon", "label_smoothing"]),
        ("-year", ["moco", "supcon", "gumbel_softmax", "knowledge_distillation", "label_smoothing"]),
        ("added", ["moco", "gumbel_softmax", "knowledge_distillation", "label_smoothing", "supcon"]),
    ],
)
def test_results_are_sorted_with_the_undated_last(library, sort, slugs):
    assert found(library, f"sort:{sort}") == slugs


def test_a_word_in_the_title_weighs_more_than_in_a_section(tmp_path):
    write(tmp_path, {"section": "title: Other things\nNotes: flooding", "title": "title: Flooding\nNotes: others"})
    assert found(Library.open(tmp_path), "flooding") == ["title", "section"]


def test_pages_of_results_follow_each_other(library):
    assert found(library, "", limit=2) + found(library, "", limit=2, offset=2) == found(library, "", limit=4)
    assert search(library, "", limit=0).total == 5
    assert found(library, "", limit=0) == []
    assert found(library, "", offset=10) == []


def test_facets_count_the_answers_and_each_count_is_what_narrowing_gives(library):
    for query in ("", "loss", "year:2020 OR gumbel"):
        results = search(library, query)
        assert sum(results.facets["status"].values()) == results.total
        for facet, counts in results.facets.items():
            for value, count in counts.items():
                assert search(library, results.query.narrowed(facet, [value])).total == count, (facet, value)


def marked(why) -> list[str]:
    return [text for text, hit in why.snippet if hit]


@pytest.mark.parametrize(
    ("query", "slug", "field", "words"),
    [
        ("gumbel", "gumbel_softmax", "title", ["Gumbel"]),
        ("distillation", "knowledge_distillation", "title", ["Distilling"]),
        ("蒸馏", "knowledge_distillation", "title_zh", ["蒸馏"]),
        ("蒸餾", "knowledge_distillation", "title_zh", ["蒸馏"]),
        ("MULLER", "knowledge_distillation", "Key", ["Müller"]),
        ("lambda", "gumbel_softmax", "Methodology", ["λ"]),
        ("lambda", "supcon", "Exps", ["λ"]),
        ("categ", "gumbel_softmax", "title", ["Categorical"]),
        ("straight-through", "gumbel_softmax", "tags", ["straight-through"]),
        ("gumble", "gumbel_softmax", "aliases", ["Gumble"]),
        ("监督对比学习", "supcon", "aliases", ["监督对比学习"]),
        ("author:jang", "gumbel_softmax", "authors", ["Jang"]),
    ],
)
def test_a_hit_says_where_it_matches_and_marks_the_words(library, query, slug, field, words):
    hit = next(hit for hit in search(library, query).hits if hit.slug == slug)
    assert hit.why[0].field == field
    assert marked(hit.why[0]) == words


def test_a_snippet_is_a_short_piece_of_the_section_itself(tmp_path):
    body = "word " * 300 + "the flooding level b keeps the loss afloat " + "word " * 300
    write(tmp_path, {"card": f"title: A card\nKey: {body}"})
    (why,) = search(Library.open(tmp_path), "flooding afloat").hits[0].why
    text = "".join(piece for piece, _ in why.snippet)
    assert marked(why) == ["flooding", "afloat"]
    assert text.strip("… ") in body
    assert len(text) < 200


def test_a_snippet_reads_as_the_page_does(tmp_path):
    body = (
        "Key: |\n  - **Soft** [targets](https://example.org/soft) at $T>1$ shrink as $\\frac{q_i-p_i}{T^2}$\n"
        "  - 知识\n  蒸馏 with $\\lambda_k$"
    )
    (tmp_path / "card.yaml").write_text(f"title: A card\n{body}")
    library = Library.open(tmp_path)

    def snippet(query: str) -> tuple[tuple[str, bool], ...]:
        return search(library, query).hits[0].why[0].snippet

    end = " targets at T > 1 shrink as (qᵢ−pᵢ)/T² • 知识蒸馏 with λₖ"
    assert snippet("soft") == (("Soft", True), (end, False))
    assert [piece for piece, hit in snippet("知识蒸馏 lambda") if hit] == ["知识蒸馏", "λ"]
    assert [piece for piece, hit in snippet("t shrinks") if hit] == ["T", "shrink", "T"]
    assert search(library, "example.org").hits[0].why == ()  # what one does not read cannot be marked


def test_a_snippet_begins_with_a_sentence_and_ends_between_words(tmp_path):
    chinese = "前面说的是别的事情。" * 12 + "温度越高，目标越软；" + "后面还有很多很多话。" * 12
    english = "It is another sentence. " * 12 + "The temperature softens targets. " + "Nothing else follows here. " * 12
    write(tmp_path, {"card": f"title: A card\nsummary_zh: {chinese}\nKey: {english}"})
    library = Library.open(tmp_path)
    for query, begins, words in (
        ("温度", "前面说的是别的事情。", 80),
        ("temperature", "It is another sentence. ", 160),
    ):
        (why,) = search(library, query).hits[0].why
        shown = "".join(piece for piece, _ in why.snippet)
        assert shown.startswith(begins)
        assert len(shown) <= words + 5
        cut = shown.removesuffix(" …")
        assert cut != shown
        assert re.search(rf"{re.escape(cut)}(?![a-z])", english + chinese)


# Ways to type the name of a shipped card, or to ask for it: it comes first.
TYPED = {
    "efficientnet": ["efficent net", "efficient net", "efficientnets"],
    "efficientdet": ["efficent det", "EfficentDet"],
    "dropout": ["drop out", "drop-outs", "why does dropout work", "dropout?", "丢弃法"],
    "mixup": [
        "mix-up",
        "mix ups",
        "ｍｉｘｕｐ",
        "mixup 2018",
        "how does mixup work",
        "mixup怎么用",
        "mixup λ",
        "mixup α",
    ],
    "batch_normalization": ["batchnorm", "batch-norm", "batchnormalization", "batch normalisation", "BN", "批标准化"],
    "layer_normalization": ["layer normalisation", "layer-norm", "LN", "層歸一化"],
    "sync_bn": ["syncbn", "SyncBatchNorm", "sync batchnorm", "BN同步", "同步 BN"],
    "nas_fpn": ["nas fpn", "nasfpn", "NAS-FPN"],
    "knowledge_distillation": [
        "KD",
        "知识的蒸馏",
        "什么是知识蒸馏？",
        "「知识蒸馏」",
        "arxiv 1503.02531",
        "hinton distillation",
    ],
    "gumbel_softmax": [
        "gumblesoftmax",
        "gumbel sofmax",
        "Gumbel采样",
        "Ｇｕｍｂｅｌ　Ｓｏｆｔｍａｘ",
        "arXiv:1611.01144",
    ],
    "label_smoothing": ["labelsmooth", "what is label smoothing?", "標籤平滑", "标签的平滑", "如何做标签平滑"],
    "focal_loss": ["focalloss", "retina net", "what is focal loss used for", "lin focal loss"],
    "transposed_convolution": ["deconv", "de-convolution", "反卷积", "轉置卷積"],
    "wgan_gp": ["wgangp", "wgan-gp", "wgan gp gradient penlty"],
    "learning_rate_warmup": ["warm up", "warm-up", "lr warmup", "学习率warmup"],
    "moco": ["MoCo-v2", "mocov2", "kaiming he moco", "动量对比"],
    "transformer": ["《Attention Is All You Need》", "attention is all you ned"],
    "resnet": ["res net", "resnets", "Kaiming He, ResNet", "残差网络"],
    "simclr": ["sim clr", "Chen SimCLR"],
    "bahdanau_attention": ["bahdanu", "bengio attention"],
    "snapshot_ensembles": ["snap shot ensemble", "snapshot ensamble"],
    "spos_one_shot": ["one shot nas", "one-shot nas"],
}


@pytest.mark.parametrize(("slug", "typed"), [(slug, typed) for slug, ways in TYPED.items() for typed in ways])
def test_a_shipped_card_comes_first_however_its_name_is_typed(slug, typed):
    assert found(Library.open(SHIPPED), typed)[:1] == [slug]


# What is asked of the shipped cards, and what may be marked in them.
ASKED = {
    "temperature": "temperatures?",
    "lambda": "λ|Λ|lambda",
    "gumble": "gumb(le|el)",
    "distillation": "disti\\w+",
    "batch norm": "batch\\w*|norm\\w*",
    "square root of the dimension": "squar\\w+|roots?|dimension\\w*",
    "label-smoothing": "label[-_ ]smooth\\w*",
    "theta gradient": "[θϑΘ]|theta|gradient\\w*",
    "知识蒸馏": "知识蒸馏",
    "對比學習 loss": "对比学习|loss\\w*",
    "温度": "温度",
    '"soft targets"': "soft targets?",
}


@pytest.mark.parametrize(("query", "may_be_marked"), ASKED.items())
def test_snippets_of_the_shipped_cards_have_no_markup_and_mark_what_was_searched(query, may_be_marked):
    reasons = [why for hit in search(Library.open(SHIPPED), query, limit=50).hits for why in hit.why]
    assert any(marked(why) for why in reasons)
    for why in reasons:
        text = "".join(piece for piece, _ in why.snippet)
        assert not re.search(r"\\|\$|\*\*|\]\(|\n", text), text
        assert all(re.fullmatch(may_be_marked, piece, re.IGNORECASE) for piece in marked(why)), (why, may_be_marked)


@pytest.mark.parametrize("query", ["loss", "gumble", "知識", "year:2020 sort:title", "contrast OR (hinton -x", ""])
def test_text_its_value_and_the_command_line_give_the_same_hits(library, query):
    slugs = found(library, query, limit=10)
    assert found(library, parse(query), limit=10) == slugs
    assert found(library, str(parse(query)), limit=10) == slugs
    notes = {"KB_NOTES": str(library.folders[0])}
    printed = CliRunner(env=notes).invoke(main, ["search", query, "--json"]).stdout
    assert [hit["slug"] for hit in json.loads(printed)] == slugs


HAN = st.text("知识蒸馏对比学", min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(HAN, min_size=1, max_size=8), asked=HAN, quoted=st.booleans())
def test_chinese_is_found_exactly_where_it_stands(tmp_path_factory, texts, asked, quoted):
    folder = tmp_path_factory.mktemp("han")
    write(folder, {f"card_{i}": f"title: Nothing\nKey: word{text}word {text[::-1]}" for i, text in enumerate(texts)})
    holding = {f"card_{i}" for i, text in enumerate(texts) if asked in text or asked in text[::-1]}
    answers = search(Library.open(folder), f'"{asked}"' if quoted else asked)
    if holding or len(asked) < 3:  # else cards with parts of it are shown
        assert {hit.slug for hit in answers.hits} == holding


@settings(max_examples=50, deadline=None)
@given(
    words=st.lists(st.text("abcλ", min_size=1, max_size=8), max_size=30, unique=True), word=st.text("abcλ", max_size=8)
)
def test_neighbors_are_all_words_within_the_edits_allowed(words, word):
    near = Vocabulary(words).neighbors(word)
    edits = {other: osa(word, other) for other in words}
    allowed = {o: n for o, n in edits.items() if len(word) > 2 and 0 < n <= (1 if len(word) <= 5 else 2)}
    assert near.items() <= allowed.items()
    assert len(near) == min(len(allowed), 8)
    assert sorted(near.values()) == sorted(allowed.values())[: len(near)]


def osa(a: str, b: str) -> int:
    """Optimal string alignment by its recurrence, for comparison."""
    table = {(i, j): max(i, j) for i in range(len(a) + 1) for j in range(len(b) + 1) if not i or not j}
    for i, x in enumerate(a, start=1):
        for j, y in enumerate(b, start=1):
            ways = [table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (x != y)]
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                ways.append(table[i - 2, j - 2] + 1)
            table[i, j] = min(ways)
    return table[len(a), len(b)]


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_no_text_makes_search_fail(tmp_path_factory, text):
    library = tiny(tmp_path_factory)
    results = search(library, text)
    assert len(results.hits) <= results.total <= len(library)
    assert all(hit.why is not None for hit in results.hits)


_TINY: dict[str, Library] = {}


def tiny(tmp_path_factory) -> Library:
    if "library" not in _TINY:
        folder = tmp_path_factory.mktemp("notes")
        write(folder, CARDS)
        _TINY["library"] = Library.open(folder)
    return _TINY["library"]


def test_a_changed_added_or_deleted_file_is_seen_after_a_reload(notes, library):
    assert found(library, "zebra") == []
    write(notes, {"moco": "title: Zebra crossing", "new": "title: Another zebra"})
    (notes / "supcon.yaml").unlink()
    changed = library.reload()
    assert set(found(changed, "zebra")) == {"moco", "new"}
    assert found(changed, "supervised") == []
    assert search(changed, "").total == 5
    assert found(library, "momentum") == ["moco"]  # the old snapshot still answers as it was


def test_only_changed_cards_are_indexed_again(notes, library, monkeypatch):
    prepare(library)
    write(notes, {"moco": "title: Zebra crossing"})
    counted = []
    prepare(library.reload(), lambda done, of: counted.append((done, of)))
    assert counted == [(1, 1)]
    prepare(Library.open(notes), lambda done, of: counted.append((done, of)))
    assert counted == [(1, 1)]
    write(notes, {"supcon": "title: Zebra stripes"})
    prepare(Library.open(notes), lambda done, of: counted.append((done, of)))
    assert counted == [(1, 1), (1, 1)]


def test_search_works_where_the_cache_cannot_be_written(library, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("KB_CACHE", str(tmp_path / "file"))
    assert found(library, "gumbel") == ["gumbel_softmax"]


def test_a_damaged_index_is_built_again(library, cache):
    assert found(library, "gumbel") == ["gumbel_softmax"]
    for file in cache.rglob("meta.json"):
        file.write_text("{")
    _index.cache_clear()
    assert found(Library.open(*library.folders), "gumbel") == ["gumbel_softmax"]


def test_an_index_of_another_format_is_not_read_but_built_again(library, cache, monkeypatch):
    prepare(library)
    monkeypatch.setattr(index.metadata, "version", lambda package: "another")
    _index.cache_clear()
    counted = []
    prepare(Library.open(*library.folders), lambda done, of: counted.append(of))
    assert len(counted) == len(library)
    assert len(list(cache.glob("search/*/*"))) == 2
    assert found(library, "gumbel") == ["gumbel_softmax"]


def test_while_another_process_writes_the_old_index_answers_and_a_line_says_so(notes, library, another_writes):
    with another_writes(library):
        write(notes, {"new": "title: A zebra", "moco": "title: Another zebra"})
        changed = library.reload()
        results = search(changed, "momentum")
        assert [hit.slug for hit in results.hits] == ["moco"]
        assert results.behind == 2
        assert any("2" in notice for notice in results.notices)
    assert set(found(changed, "zebra")) == {"new", "moco"}
    assert search(changed, "zebra").notices == ()


def test_a_card_deleted_while_another_process_writes_is_not_found_and_soon_forgotten(notes, library, another_writes):
    with another_writes(library):
        (notes / "moco.yaml").unlink()
        after = library.reload()
        during = search(after, "")
        assert during.behind == 1
        assert {hit.slug for hit in during.hits} == set(after)
        assert all(hit.why is not None for hit in search(after, "momentum").hits)
    assert search(after, "").behind == 0
    assert search(after, "").total == len(after)


def test_an_index_that_another_process_begins_to_write_while_it_is_reloaded_does_not_count_as_up_to_date(
    notes, library, cache, monkeypatch
):
    prepare(library)
    (mark,) = cache.glob("search/*/*/fingerprint")
    fresh = index.LibraryIndex(library.folders)
    assert fresh._reloads_as(library)

    class Meanwhile:
        def reload(self):
            mark.write_text("")

    monkeypatch.setattr(fresh, "_index", Meanwhile())
    assert not fresh._reloads_as(library)


# Rewrites one of its cards again and again, and prints its number when the change can be found.
WRITER = """
import sys
from pathlib import Path
from kb.library import Library
from kb.search import search
notes, name = Path(sys.argv[1]), sys.argv[2]
library = Library.open(notes)
for i in range(int(sys.argv[3])):
    card = notes / f"{name}_{i % 7}.yaml"
    card.with_suffix(".new").write_text(f"title: {name}{i}x\\nKey: {'word ' * 500}")
    card.with_suffix(".new").replace(card)
    library = library.reload()
    assert search(library, f'"{name}{i}x"').total == 1, i
    print(i, flush=True)
"""


def writer(notes: Path, name: str, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(notes), name, str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_whole(notes: Path) -> None:
    """A fresh process' view: every card is found under what its file says now, once."""
    _index.cache_clear()
    library = Library.open(notes)
    assert search(library, "").total == len(library)
    for slug, card in library.cards.items():
        assert found(library, f'"{card.title}"') == [slug]


def test_an_index_whose_writer_was_killed_opens_and_answers(notes):
    rng = random.Random(20261121)
    for _ in range(5):
        process = writer(notes, "killed", 10_000)
        process.stdout.readline()  # it is in the middle of its work
        time.sleep(rng.uniform(0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        check_whole(notes)


def test_two_processes_may_change_and_search_one_library_at_once(notes):
    processes = [writer(notes, name, 10) for name in ("first", "second")]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.split() == [str(i) for i in range(10)]
    check_whole(notes)
