"""Pydantic's errors in plain English."""

import re

import yaml
from pydantic_core import ErrorDetails

from kb.card.model import nearest
from kb.card.syntax import quoted

Path = tuple[str | int, ...]

_KINDS = {
    "bool": "a yes-or-no value",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "null": "nothing",
}
_ENTRY_OF = {  # how an entry that stands alone is written out
    "related": "{{card: {0}}}",
    "claims": "{{says: {0}}}",
    "corrections": "{{said: {0}, right: ...}}",
}


def shown(path: Path) -> str:
    """A path as a person writes it: claims[0].check."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def kind_of(node: yaml.Node) -> str:
    """What YAML takes a node for."""
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return _KINDS.get(node.tag.rpartition(":")[2], "text")


def _inline(raw: str) -> str:
    """A value as it may stand between brackets."""
    return (raw if re.fullmatch(r"[\w .-]+", raw) else quoted(raw)) if raw else "..."


def explain(error: ErrorDetails, node: yaml.Node | None) -> tuple[str, str]:
    """What is wrong and how to mend it; `node` is what stands there, if anything does."""
    kind, path = error["type"], error["loc"]
    context = error.get("ctx", {})
    if kind == "card":
        return context["message"], context["mend"]
    key = str(path[-1])
    if kind == "missing" or node is None:
        return f"the {key} is missing here.", f"write `{key}: ...`."
    raw = node.value if isinstance(node, yaml.ScalarNode) else ""
    stands = f"{kind_of(node)} stands here"
    label = "" if isinstance(path[-1], int) else f"{key}: "
    match kind:
        case "string_type" if raw:
            return f"YAML reads {raw} as {kind_of(node)}, but this is text.", f"write {label}{quoted(raw)}."
        case "string_type":
            return (
                f"{stands}, but this is text.",
                f"write `{label}|` and the text below it, indented, or put the text in quotes.",
            )
        case "tuple_type":
            entry = _ENTRY_OF.get(key, "{0}").format(_inline(raw))
            return f"{stands}, but this is a list.", f"write {key}: [{entry}]."
        case "model_type":
            entry = _ENTRY_OF[str(path[0])].format(_inline(raw))
            return f"{stands}, but an entry has names for its parts.", f"write {entry}."
        case "dict_type" | "mapping_type":
            name = "url" if "://" in raw else "arxiv"
            return f"{stands}, but this is names and addresses.", f"write {key}: {{{name}: {_inline(raw)}}}."
        case "literal_error":
            close = nearest(raw, tuple(re.findall(r"'(\w+)'", context["expected"])))
            mend = f"write {key}: {close}." if close else "write one of these."
            return f"this is {context['expected']}, not {raw or kind_of(node)!r}.", mend
        case "int_type":
            found = re.search(r"\d{4}", raw)
            return f"{stands}, but this is a whole number.", f"write {key}: {found[0] if found else 2017}."
        case "date_type":
            return f"{stands}, but this is a day.", f"write {key}: 2026-11-21 (year-month-day)."
    return f"{error['msg']}.", "compare it with another card."
