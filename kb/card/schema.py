"""The JSON Schema of a card file, for editors."""

from collections.abc import Mapping
from typing import Any

from kb.card.model import ARXIV, DOI, SECTIONS, TOPICS, Card


def schema(topics: Mapping[str, str] = TOPICS) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a card file: a file is valid exactly when `parse` finds no error of a field in it.

    An empty value (`Key:`) is as good as none; a section may be a list of bullets; unknown keys are allowed.
    """
    made = Card.model_json_schema()
    fields = {name: field for name, field in made["properties"].items() if name not in ("slug", "extra")}
    fields["topic"] |= {"anyOf": [{"enum": list(topics)}, {"type": "null"}]}
    fields["links"] |= _links()
    for name in SECTIONS:
        fields[name] = {"description": fields[name]["description"], "type": ["string", "array", "null"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Card",
        "description": "A note on a paper, a method or a day.",
        "type": "object",
        "required": ["title"],
        "properties": {name: _or_empty(name, field) for name, field in fields.items()},
        "$defs": made["$defs"],
    }


def _links() -> dict[str, Any]:
    return {
        "properties": {
            "arxiv": {"type": "string", "pattern": f"^({ARXIV.pattern})$"},
            "doi": {"type": "string", "pattern": f"^{DOI.pattern}$"},
        },
        "additionalProperties": {"type": "string", "pattern": r"^https?://\S+$"},
    }


def _or_empty(name: str, field: dict[str, Any]) -> dict[str, Any]:
    if name == "title" or "anyOf" in field or isinstance(field.get("type"), list):
        return field
    told = {key: value for key, value in field.items() if key in ("title", "description", "default")}
    rule = {key: value for key, value in field.items() if key not in told}
    return told | {"anyOf": [rule, {"type": "null"}]}
