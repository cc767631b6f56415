"""A card as YAML that a person likes to edit."""

import re
from typing import Any

import yaml

from kb.card.model import SECTIONS, Card
from kb.card.syntax import ESCAPED

WIDTH = 100
# Text that a literal block gives back as it was: no blank line at its ends, and nothing that YAML escapes.
_FIT_FOR_A_LITERAL = re.compile(f"(?![ \t]*\n)[^{ESCAPED}]*[^\\s\ufeff]\n")


def dump(card: Card) -> str:
    """The text of the card's file; `parse` gives the same card back.

    Fields in the order of the model, empty ones left out, unknown keys last; sections as literal blocks.
    """
    fields = card.model_dump(exclude={"slug", "extra"}, exclude_defaults=True)
    fields |= {"kind": card.kind, "status": card.status}
    known = [_entry(name, fields[name]) for name in Card.model_fields if name in fields]
    return "".join(known + [_entry(name, value) for name, value in card.extra.items()])


def _entry(name: str, value: Any) -> str:
    if name in SECTIONS or (name == "summary_zh" and "\n" in value):
        value += "\n"
    if isinstance(value, str) and name.isidentifier() and _FIT_FOR_A_LITERAL.fullmatch(value):
        return _literal(name, value)
    if isinstance(value, (list, tuple, dict)):
        flow = _yaml({name: value}, flow=True)
        if max(map(len, flow.splitlines())) <= WIDTH:
            return flow
    return _yaml({name: value}, flow=False)


def _literal(name: str, text: str) -> str:
    indent = "2" if text[0] in " \t" else ""
    return f"{name}: |{indent}\n" + "".join(
        f"  {line}" if line != "\n" else line for line in text.splitlines(keepends=True)
    )


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(value: Any, *, flow: bool) -> str:
    """`value` as YAML; with `flow`, collections that hold only scalars stand on one line."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        allow_unicode=True,
        sort_keys=False,
        default_flow_style=None if flow else False,
        width=float("inf"),
    )
