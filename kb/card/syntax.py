"""YAML text to nodes, with every syntax error in plain English.

PyYAML's own composer descends in C without a limit (50,000 opening brackets end the process) and shares aliased nodes
(a few lines can stand for billions). A card needs neither depth nor aliases, so its events are composed here.
"""

import json
import re
from typing import Any

import yaml

MAX_DEPTH = 32
# Characters that YAML has only as escapes in double quotes, or takes for the end of a line.
ESCAPED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff"
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_STR = "tag:yaml.org,2002:str"
_OPENED_BEFORE = re.compile("flow (sequence|mapping)|simple key|an? (alias|anchor|tag)|end of stream")
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


def _explained(error: yaml.MarkedYAMLError, text: str) -> Unreadable:
    said, doing = error.problem or "", error.context or ""
    mark = (error.context_mark if _OPENED_BEFORE.search(f"{doing}: {said}") else None) or error.problem_mark
    if mark is None:
        return Unreadable(f"this is not YAML: {said}.", "compare it with another card.")
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    message, mend = _plain_english(said, doing, line, mark.column)
    return Unreadable(message, mend, mark.line + 1, mark.column + 1)


def _plain_english(said: str, doing: str, line: str, column: int) -> tuple[str, str]:
    """The message and the mend for what PyYAML `said`, and what it was `doing`, at a column (from 0) of a line."""
    entry = _ENTRY.fullmatch(line)
    if "\t" in line[: len(line) - len(line.lstrip())]:
        where = "after a tab"
    elif entry and column > entry.start("value"):
        where = "in a value"
    else:
        where = "in an indented line" if line[:1].isspace() else "in a line of its own"
    escape = line.rfind("\\", 0, column + 1)
    words = {
        "said": said,
        "here": line[column : column + 1],
        "escape": line[escape : escape + 2],
        "in_quotes": f"{entry['key'].lstrip()}: {quoted(entry['value'])}" if entry else "the whole value in quotes",
    }
    message, mend = next(
        (message, mend)
        for pattern, only, message, mend in _ENGLISH
        if re.search(pattern, f"{doing}: {said}") and only in ("", where)
    )
    return message.format(**words), mend.format(**words)


# A pattern for what PyYAML was doing and said, where that was (if it matters), what it means and how to mend it; the
# first that fits counts.
_ENGLISH = (
    ("", "after a tab",
     "a tab indents this line, and YAML counts spaces only.",
     "replace the tab with spaces."),
    ("mapping values are not allowed", "in a value",
     "a colon and a space stand inside a value without quotes.",
     "write {in_quotes}."),
    ("mapping values are not allowed", "in a line of its own",
     "the line above is not `key: value`.",
     "write a colon and a space after its key."),
    ("mapping values are not allowed", "",
     "this key is indented deeper than the line above, so YAML takes it for a part of that value.",
     "start it in the same column as the keys around it."),
    ("quoted scalar.*end of stream", "",
     "the quote that opens here is never closed.",
     "close it at the end of the value."),
    ("quoted scalar", "",
     "a backslash in double quotes starts an escape, and {escape} is none.",
     "use single quotes, in which a backslash is a backslash."),
    ("flow node", "",
     "a value is missing here, or a bracket is not closed.",
     "delete a comma too many; close the bracket; put a value that starts with a bracket in quotes."),
    ("flow (sequence|mapping)", "",
     "the {here} that opens here is not closed, or a comma or quotes are missing inside it.",
     "close it; a value that starts with {here} and is plain text goes in quotes, and so does one inside it that holds "
     "a comma or a colon."),
    ("simple key", "",
     "this line is neither `key: value` nor indented as a part of the value above.",
     "indent it, or write a colon and a space after the key."),
    ("block scalar", "",
     "text follows | or > on its line.",
     "start the text on the next line, indented by two spaces."),
    ("alias|anchor|tag|cannot start any token", "in a value",
     "a value without quotes cannot start with {here}.",
     "put what starts with {here} in quotes."),
    ("alias|anchor|tag|cannot start any token", "",
     "a value without quotes cannot start with {here}.",
     "write {in_quotes}."),
    ("sequence entries are not allowed", "",
     "a list with dashes starts on its key's own line.",
     "start each `- ` on a line of its own."),
    ("", "in a value",
     "text follows the closing quote or bracket of this value.",
     "write {in_quotes}."),
    ("document start", "",
     "a second document starts here.",
     "keep one card in a file: move the rest into its own."),
    ("block", "",
     "this line's indentation fits no line above.",
     "start it in the same column as its neighbors."),
    ("", "",
     "this is not YAML: {said}.",
     "compare it with another card."),
)  # fmt: skip
