"""YAML text to nodes, with every syntax error in plain English.

PyYAML's own composer descends in C without a limit (50,000 opening brackets end the process) and shares aliased nodes
(a few lines can stand for billions). A card needs neither depth nor aliases, so its events are composed here.
"""

import json
import re
from typing import Any, NamedTuple

import yaml

MAX_DEPTH = 32
# Characters that YAML has only as escapes in double quotes, or takes for the end of a line.
ESCAPED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff"
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_STR = "tag:yaml.org,2002:str"
_UNCLOSED = re.compile("flow (sequence|mapping)")
_ENTRY = re.compile(r"(?P<key>\s*(?:- +)*[^\s:#][^:]*):\s+(?P<value>\S.*)")


class Unreadable(Exception):
    """The text is not one YAML document that a card may be."""

    def __init__(self, message: str, mend: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message, self.mend, self.line, self.column = message, mend, line, column


def quoted(value: str) -> str:
    """`value` in the quotes that change least in it."""
    if re.search(r'["\\]', value) and "'" not in value:
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False)


def compose(text: str) -> yaml.Node | None:
    """The one document in `text` as nodes with marks (which count from 0); None when it is empty.

    Raises `Unreadable` for what is not YAML, and for several documents, anchors, aliases, tags and deep nesting.
    """
    try:
        return _document(Loader(text))
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text) from None
    except (yaml.reader.ReaderError, UnicodeEncodeError):
        raise _unprintable(text) from None


def _document(loader: Any) -> yaml.Node | None:
    loader.get_event()  # the stream starts
    if loader.check_event(yaml.StreamEndEvent):
        return None
    loader.get_event()  # the document starts
    root = _node(loader, 0)
    loader.get_event()  # the document ends
    if not loader.check_event(yaml.StreamEndEvent):
        raise _refused(
            loader.get_event(), "a second document starts here.", "keep one card in a file: move the rest into its own."
        )
    return root


def _node(loader: Any, depth: int) -> yaml.Node:
    event = loader.get_event()
    if isinstance(event, yaml.AliasEvent):
        raise _refused(event, f"YAML reads *{event.anchor} as an alias.", _quote_or_write("*"))
    if event.anchor is not None:
        raise _refused(event, f"YAML reads &{event.anchor} as an anchor.", _quote_or_write("&"))
    if event.tag not in (None, "!", _STR):
        raise _refused(event, f"YAML reads {event.tag} as a tag.", _quote_or_write("!"))
    if depth > MAX_DEPTH:
        raise _refused(event, f"this is nested more than {MAX_DEPTH} deep.", "write it flatter, or as text in quotes.")

    start: Any = event.start_mark
    if isinstance(event, yaml.ScalarEvent):
        tag = event.tag if event.tag == _STR else loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        return yaml.ScalarNode(tag, event.value, start, style=event.style)
    children: list[Any] = []
    if isinstance(event, yaml.SequenceStartEvent):
        while not loader.check_event(yaml.SequenceEndEvent):
            children.append(_node(loader, depth + 1))
        kind: type[yaml.CollectionNode] = yaml.SequenceNode
    else:
        while not loader.check_event(yaml.MappingEndEvent):
            children.append((_node(loader, depth + 1), _node(loader, depth + 1)))
        kind = yaml.MappingNode
    loader.get_event()  # the collection ends
    return kind("", children, start)


def _quote_or_write(sign: str) -> str:
    return f"put a value that starts with {sign} in quotes, or write it out."


def _refused(event: Any, message: str, mend: str) -> Unreadable:
    return Unreadable(message, mend, event.start_mark.line + 1, event.start_mark.column + 1)


def _unprintable(text: str) -> Unreadable:
    found = yaml.reader.Reader.NON_PRINTABLE.search(text) or re.search("\ufeff", text)
    at = found.start() if found else 0
    before = text[:at].splitlines(keepends=True) or [""]
    ends = before[-1].endswith(("\n", "\r"))
    return Unreadable(
        f"the character U+{ord(text[at]):04X} stands here, which no YAML text may hold.",
        "delete it; editors show it as a box or not at all.",
        len(before) + ends,
        1 if ends else len(before[-1]) + 1,
    )


class _Place(NamedTuple):
    """Where PyYAML stopped, and what it said."""

    said: str
    doing: str
    line: str  # that line's text
    column: int  # counts from 0


def _explained(error: yaml.MarkedYAMLError, text: str) -> Unreadable:
    said, doing = error.problem or "", error.context or ""
    opened_before = "end of stream" in said or "simple key" in doing or _UNCLOSED.search(doing)
    mark = (error.context_mark if opened_before else None) or error.problem_mark
    if mark is None:
        return Unreadable(f"this is not YAML: {said}.", "compare it with another card.")
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    message, mend = _plain_english(_Place(said, doing, line, mark.column))
    return Unreadable(message, mend, mark.line + 1, mark.column + 1)


def _plain_english(at: _Place) -> tuple[str, str]:
    here = at.line[at.column : at.column + 1]
    entry = _ENTRY.fullmatch(at.line)
    in_quotes = f"{entry['key'].lstrip()}: {quoted(entry['value'])}" if entry else "the whole value in quotes"

    if "\t" in at.line[: len(at.line) - len(at.line.lstrip())]:
        return "a tab indents this line, and YAML counts spaces only.", "replace the tab with spaces."
    if at.said.startswith("mapping values are not allowed"):
        if entry and at.column > entry.start("value"):
            return "a colon and a space stand inside a value without quotes.", f"write {in_quotes}."
        if not at.line[:1].isspace():
            return "the line above is not `key: value`.", "write a colon and a space after its key."
        return (
            "this key is indented deeper than the line above, so YAML takes it for a part of that value.",
            "start it in the same column as the keys around it.",
        )
    if "quoted scalar" in at.doing and "end of stream" in at.said:
        return "the quote that opens here is never closed.", "close it at the end of the value."
    if "quoted scalar" in at.doing:
        escape = at.line.rfind("\\", 0, at.column + 1)
        return (
            f"a backslash in double quotes starts an escape, and {at.line[escape : escape + 2]} is none.",
            "use single quotes, in which a backslash is a backslash.",
        )
    if "flow node" in at.doing:
        return (
            "a value is missing here, or a bracket is not closed.",
            "delete a comma too many; close the bracket; put a value that starts with a bracket in quotes.",
        )
    if _UNCLOSED.search(at.doing):
        return (
            f"the {here} that opens here is not closed, or a comma or quotes are missing inside it.",
            f"close it; a value that starts with {here} and is plain text goes in quotes, and so does one inside it "
            "that holds a comma or a colon.",
        )
    if "simple key" in at.doing:
        return (
            "this line is neither `key: value` nor indented as a part of the value above.",
            "indent it, or write a colon and a space after the key.",
        )
    if "block scalar" in at.doing:
        return "text follows | or > on its line.", "start the text on the next line, indented by two spaces."
    if "alias" in at.doing or "anchor" in at.doing or "tag" in at.doing or "cannot start any token" in at.said:
        return f"a value without quotes cannot start with {here or at.line[at.column - 1 :]}.", f"write {in_quotes}."
    if "sequence entries are not allowed" in at.said:
        return "a list with dashes starts on its key's own line.", "start each `- ` on a line of its own."
    if entry and at.column > entry.start("value"):
        return "text follows the closing quote or bracket of this value.", f"write {in_quotes}."
    if "block" in at.doing:
        return "this line's indentation fits no line above.", "start it in the same column as its neighbors."
    if "document start" in at.said:
        return "a second document starts here.", "keep one card in a file: move the rest into its own."
    return f"this is not YAML: {at.said}.", "compare it with another card."
