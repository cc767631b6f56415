"""The JSON Schema of a card file, for editors."""

from collections.abc import Collection, Mapping
from typing import Any

from kb.card.model import ARXIV, DOI, SECTIONS, TOPICS, Card

_BULLETS = {
    "description": "Bullets; a list below `- parent:` is nested.",
    "type": "array",
    "items": {
        "anyOf": [
            {"type": ["string", "number", "boolean", "null"]},
            {"$ref": "#/$defs/Bullets"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": {"$ref": "#/$defs/Bullets"},
            },
        ]
    },
}


def schema(topics: Mapping[str, str] = TOPICS) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a card file whose library has these topics.

    It knows the rules of every field by itself. As in `parse`, an empty value is as good as none, a section may be a
    list of bullets, and unknown keys are allowed.
    """
    made = Card.model_json_schema()
    fields = {name: field for name, field in made["properties"].items() if name not in ("slug", "extra")}
    fields["topic"]["anyOf"] = [{"enum": list(topics)}, {"type": "null"}]
    fields["links"] |= {
        "properties": {
            "arxiv": {"type": "string", "pattern": f"^({ARXIV.pattern})$"},
            "doi": {"type": "string", "pattern": f"^({DOI.pattern})$"},
        },
        "additionalProperties": {"type": "string", "pattern": r"^https?://\S+$"},
    }
    for name in SECTIONS:
        described = {"description": fields[name]["description"]}
        fields[name] = described | {"anyOf": [{"type": ["string", "null"]}, {"$ref": "#/$defs/Bullets"}]}
    for entry in made["$defs"].values():
        entry["properties"] = _or_empty(entry["properties"], entry["required"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Card",
        "description": "A note on a paper, a method or a day.",
        "type": "object",
        "required": ["title"],
        "properties": _or_empty(fields, {"title"}),
        "$defs": made["$defs"] | {"Bullets": _BULLETS},
    }


def _or_empty(fields: dict[str, Any], required: Collection[str]) -> dict[str, Any]:
    """The same fields, of which those that are not required may be null."""
    return {name: field if name in required or "anyOf" in field else _nullable(field) for name, field in fields.items()}


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    said = {key: field[key] for key in ("title", "description", "default") if key in field}
    rule = {key: value for key, value in field.items() if key not in said}
    return said | {"anyOf": [rule, {"type": "null"}]}
