"""A card as YAML that a person likes to edit."""

import re
from typing import Any

import yaml

from kb.card.model import SECTIONS, Card

WIDTH = 100
_NOT_IN_A_LITERAL = re.compile("[\u2028\u2029\ufeff\ufffe\uffff]")


def dump(card: Card) -> str:
    """The text of the card's file; `parse` gives the same card back.

    Fields in the order of the model, empty ones left out, unknown keys last; sections as literal blocks.
    """
    fields = card.model_dump(exclude={"slug", "extra"}, exclude_defaults=True)
    fields |= {"kind": card.kind, "status": card.status}
    known = [_entry(name, fields[name]) for name in Card.model_fields if name in fields]
    return "".join(known + [_entry(name, value) for name, value in card.extra.items()])


def _entry(name: str, value: Any) -> str:
    if isinstance(value, str) and (name in SECTIONS or "\n" in value) and not _NOT_IN_A_LITERAL.search(value):
        return _literal(name, value)
    if isinstance(value, (list, tuple, dict)):
        flow = _yaml({name: value}, flow=True)
        if max(map(len, flow.splitlines())) <= WIDTH:
            return flow
    return _yaml({name: value}, flow=False)


def _literal(name: str, text: str) -> str:
    indent = "2" if text[0] in " \t" else ""
    return f"{name}: |{indent}\n" + "".join(f"  {line}\n" if line else "\n" for line in text.split("\n"))


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
