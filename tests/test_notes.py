"""The shipped cards: complete, consistent, connected, in their own words, and covering the original notes."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from kb.library import SHIPPED, Library

LIBRARY = Library.open(SHIPPED)
CARDS = list(LIBRARY.cards.values())
COVERAGE = yaml.safe_load((Path(__file__).parent / "notes" / "headings.yaml").read_text(encoding="utf-8"))
# The original notes stand beside the repository on the machines of its authors, never in it.
SEEDS = Path(__file__).parents[2] / "shared" / "seeds"
CATALOGUE = SEEDS.parent / "catalogue.yaml"
DOCUMENTS = ["paper_stack", "general_ml", "image_classification", "tricks"]
TEMPLATE = ("Key", "Source", "Motivation", "Methodology", "Exps", "Ideas")

every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.slug)
with_seeds = pytest.mark.skipif(not SEEDS.exists(), reason="the original notes are not on this machine")


def test_the_shipped_library_has_no_problems():
    assert not LIBRARY.problems


@every_card
def test_a_card_is_complete_in_its_six_sections_and_both_languages(card):
    assert [name for name in TEMPLATE if not card.sections.get(name)] == []
    assert len(re.findall(r"[\u4e00-\u9fff]", card.summary_zh)) >= 30
    assert card.title_zh or re.search(r"[\u4e00-\u9fff]", " ".join(card.aliases)) or card.kind == "journal"


@every_card
def test_latin_and_chinese_are_spaced(card):
    assert not re.findall(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u4e00-\u9fff]", card.summary_zh)


@every_card
def test_the_year_agrees_with_the_venue(card):
    # Not a page number: 15(56):1929-1958.
    years = re.findall(r"(?<![:–-])\b(?:19|20)\d\d\b(?![–-])", card.venue)
    assert not years or str(card.year) in years or str((card.year or 0) - 1) in years


def test_arxiv_ids_are_unique():
    ids = Counter(card.links["arxiv"] for card in CARDS if "arxiv" in card.links)
    shared = {
        arxiv: {card.slug for card in CARDS if card.links.get("arxiv") == arxiv} for arxiv in ids if ids[arxiv] > 1
    }
    assert all(any(slugs <= family for family in PARTS_OF_ONE_PAPER) for slugs in shared.values()), shared


# A paper and the cards on one thing in it.
PARTS_OF_ONE_PAPER = [
    {"transformer", "scaled_dot_product_attention", "multi_head_attention", "position_wise_ffn"},
    {"bag_of_tricks", "zero_gamma", "no_bias_decay", "resnet_bcd"},
    {"linear_scaling_rule", "learning_rate_warmup"},
    {"knowledge_distillation", "specialist_ensembles"},
    {"cpc", "infonce"},
    {"monte_carlo_area"},
]


def test_every_card_can_be_reached_from_every_other():
    links = {card.slug: {related.card for related in card.related} for card in CARDS}
    around = {slug: links[slug] | {other for other in links if slug in links[other]} for slug in links}
    reached, found = {CARDS[0].slug}, [CARDS[0].slug]
    while found:
        new = around[found.pop()] - reached
        reached |= new
        found += new
    assert reached == set(links)


@every_card
def test_a_related_card_comes_with_a_reason(card):
    assert card.related and all(related.why for related in card.related)


HEADINGS = [(document, heading, slug) for document in COVERAGE for heading, slug in COVERAGE[document].items()]


@pytest.mark.parametrize(("document", "heading", "slug"), HEADINGS)
def test_every_heading_of_the_original_notes_has_its_card(document, heading, slug):
    assert slug in LIBRARY


@with_seeds
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_list_of_headings_is_complete(document):
    (path,) = SEEDS.glob(f"{DOCUMENTS.index(document) + 1:03}_*.txt")
    text = path.read_text(encoding="utf-8")
    listed = set(COVERAGE[document])
    if document == "general_ml":
        assert not [heading for heading in listed if heading not in text]
    else:
        assert not [heading for heading in _headings(text) if heading not in listed]


def _headings(text):
    """Markdown headings, linked titles, and bold words that begin a line."""
    for block in text.split("```")[::2]:
        for line in block.splitlines():
            if heading := re.match(r"\s*#+\s+(?:#+\s)?\s*(.+?)\s*#*\s*$", line):
                if "λ" not in line:
                    yield heading[1].strip().strip("*").strip()
            else:
                yield from re.findall(r"(?<!!)\[([^\]]+)\]\(", line)
                yield from (bold.strip() for bold in re.findall(r"^\s*(?:[*\-]|\d+\.)?\s*\*\*([^*]+)\*\*", line))


@with_seeds
def test_every_entry_of_the_catalogue_has_a_card_or_is_an_alias_of_one():
    entries = yaml.load(CATALOGUE.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    american = [entry["id"].replace("regularisation", "regularization") for entry in entries]
    assert len(american) == 114
    assert not [slug for slug in american if slug not in LIBRARY]


@with_seeds
@every_card
def test_a_card_is_in_its_own_words(card):
    text = LIBRARY.files[card.slug].read_text(encoding="utf-8")
    # A paper's title is the one thing that both may quote.
    for title in [card.title, *(other.title for other in CARDS)]:
        text = text.replace(title, " | ")
    seeds = _seeds()
    assert not _runs(re.findall(r"[A-Za-z0-9']+|\|", text.lower()), 12) & seeds["words"]
    assert not _runs(re.findall(r"[\u4e00-\u9fff]", text), 20) & seeds["characters"]


def _seeds(cache={}):  # noqa: B006  # read once
    if not cache:
        text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(SEEDS.glob("*.txt")))
        cache["words"] = _runs(re.findall(r"[A-Za-z0-9']+", text.lower()), 12)
        cache["characters"] = _runs(re.findall(r"[\u4e00-\u9fff]", text), 20)
    return cache


def _runs(tokens, length):
    return {tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)}
