"""One card: a note on a paper, a method or a day, as a value. No disk.

`parse` reads the text of a card file and explains whatever is wrong in it; `dump` writes that text; `schema` describes
it to editors. `model` says what a card is, `syntax` reads YAML, `reading` turns YAML into a card, and `readable` its
Markdown into plain characters.
"""

from kb.card.model import (
    SECTIONS,
    SLUG,
    TOPICS,
    Card,
    Claim,
    Correction,
    Related,
    nearest,
)
from kb.card.problem import Problem
from kb.card.readable import readable
from kb.card.reading import Named, Reading, parse, read, read_topics
from kb.card.schema import schema
from kb.card.writing import dump

__all__ = [
    "SECTIONS",
    "SLUG",
    "TOPICS",
    "Card",
    "Claim",
    "Correction",
    "Named",
    "Problem",
    "Reading",
    "Related",
    "dump",
    "nearest",
    "parse",
    "read",
    "read_topics",
    "readable",
    "schema",
]
