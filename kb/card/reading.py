"""The text of a card file to a `Card`, with a problem for everything that is wrong in it."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from kb.card.explaining import Path, explain, kind_of, shown
from kb.card.model import (
    FIELDS,
    SECTIONS,
    SLUG,
    TOPICS,
    Card,
    Claim,
    Correction,
    Related,
    nearest,
    slugified,
)
from kb.card.problem import Problem
from kb.card.syntax import ESCAPED, Unreadable, compose

_ENTRIES: Mapping[str, type[BaseModel]] = {"related": Related, "claims": Claim, "corrections": Correction}
_NAMES: Mapping[str, Path] = {"related": ("card",), "demos": (), "claims": ("check",)}
_REQUIRED = {name for model in _ENTRIES.values() for name, field in model.model_fields.items() if field.is_required()}
_NULL = "tag:yaml.org,2002:null"
_LONGEST_NUMBER = 64  # digits; YAML's base 60 numbers take quadratic time
# What is left of \tau, \theta, \times, \text, \tilde, \to, \top, \nu, \nabla, \neq, \ne and \not.
_LOST_BACKSLASH = re.compile(r"\t(?=au|heta|imes|ext|ilde|op?\b)|\n(?=u\b|abla|eq?\b|ot\b)")
_ONLY_IN_DOUBLE_QUOTES = re.compile(f"[{ESCAPED}]")
_construct = yaml.constructor.SafeConstructor()
_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "tag:yaml.org,2002:bool": _construct.construct_yaml_bool,
    "tag:yaml.org,2002:int": _construct.construct_yaml_int,
    "tag:yaml.org,2002:float": _construct.construct_yaml_float,
    "tag:yaml.org,2002:timestamp": _construct.construct_yaml_timestamp,
}


class Named(NamedTuple):
    """Where a card names another card, a demo or a check: `field` is a path such as `claims[0].check`."""

    name: str
    line: int
    column: int
    field: str


class Reading(NamedTuple):
    """A card file, read: the card if there is one, what is wrong, and what else the card names."""

    card: Card | None
    problems: tuple[Problem, ...]
    named: tuple[Named, ...] = ()


def parse(
    text: str, *, slug: str, file: str = "", topics: Mapping[str, str] = TOPICS
) -> tuple[Card | None, tuple[Problem, ...]]:
    """The card that `text` holds, and all that is wrong with it.

    What is wrong in an optional field costs that entry only; there is no card when the text is not YAML or has no
    title. A slug that is not in snake_case is a problem, and the card goes under the nearest one that is.
    """
    card, problems, _ = read(text, slug=slug, file=file, topics=topics)
    return card, problems


def read(text: str, *, slug: str, file: str = "", topics: Mapping[str, str] = TOPICS) -> Reading:
    """As `parse`, and what else the card names."""
    return _Reader(file).card(text, slug, topics)


def read_topics(text: str, *, file: str = "") -> tuple[Mapping[str, str] | None, tuple[Problem, ...]]:
    """The topics (slug -> Chinese name) that a `_library.yaml` lists, None when it lists none, and its problems."""
    return _Reader(file).topics(text)


class _Reader:
    """Reads one file; gathers its problems and remembers which node each value came from."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.nodes: dict[Path, yaml.Node] = {}
        self.keys: dict[Path, yaml.Node] = {}

    def card(self, text: str, slug: str, topics: Mapping[str, str]) -> Reading:
        data = self.top(text, "write `title: ...` in its first line; only the title is required.")
        if data is None:
            return Reading(None, self.sorted_problems())
        slug = self.proper(slug)
        fields = {name: value for name, value in data.items() if name in FIELDS}
        extra = {name: value for name, value in data.items() if name not in FIELDS}
        self.warn_of_unknown_keys(fields, extra)
        self.check_topic(fields, topics)
        # Without any slug there will be no card, but its other problems are told all the same.
        card, bad = self.valid(fields | {"slug": slug or "nameless", "extra": extra})
        if card is None or not slug:
            return Reading(None, self.sorted_problems())
        return Reading(card, self.sorted_problems(), tuple(self.named(card, fields, bad)))

    def topics(self, text: str) -> tuple[Mapping[str, str] | None, tuple[Problem, ...]]:
        data = self.top(text, "write `topics:` and below it lines of `slug: Chinese name`.") or {}
        for name in data.keys() - {"topics"}:
            self.add("this is not a setting of a library.", "delete it; the one setting is `topics`.", (name,))
        topics = {} if data.get("topics") is None else data["topics"]
        if not isinstance(topics, dict):
            self.add(
                f"{kind_of(self.nodes['topics',])} stands here.", "write lines of `slug: Chinese name`.", ("topics",)
            )
            topics = {}
        bad = {slug for slug, name in topics.items() if not (SLUG.fullmatch(slug) and isinstance(name, str))}
        for slug in bad:
            mend = f"write `{slugified(slug) or 'sampling'}: 采样`."
            self.add("a topic is a slug in snake_case and a Chinese name.", mend, ("topics", slug))
        return {slug: name for slug, name in topics.items() if slug not in bad} or None, self.sorted_problems()

    # Text to plain values.

    def top(self, text: str, mend: str) -> dict[str, Any] | None:
        """The file's top mapping as plain values; None, and a problem, when it has none."""
        try:
            root = compose(text.removeprefix("\ufeff"))
        except Unreadable as error:
            self.problems.append(Problem(error.message, error.mend, "error", self.file, error.line, error.column))
            return None
        if root is None or root.tag == _NULL:
            self.problems.append(Problem("the file is empty.", mend, "error", self.file, 1, 1))
            return None
        self.nodes[()] = root
        if not isinstance(root, yaml.MappingNode):
            told = f"the file holds {kind_of(root)}, not lines of `key: value`."
            self.add(told, f"{mend} A space follows each colon.")
            return None
        return self.mapping(root, ())

    def value(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            if len(path) == 1 and path[0] in SECTIONS:
                return "\n".join(self.bullets(node, path))
            return self.sequence(node, path)
        return self.scalar(node, path)

    def scalar(self, node: Any, path: Path) -> Any:
        if node.tag == _NULL:
            return None
        lost = _LOST_BACKSLASH.search(node.value) if node.style == '"' else None
        if lost and not _ONLY_IN_DOUBLE_QUOTES.search(node.value):
            escape = "\\t" if lost[0] == "\t" else "\\n"
            told = f"{escape} in double quotes is white space, so that a LaTeX command here loses its start."
            self.add_at(node, told, "put the value in single quotes or a literal block (|).", path, "warning")
        if node.tag not in _VALUES or len(node.value) > _LONGEST_NUMBER:
            return node.value
        try:
            return _VALUES[node.tag](node)
        except ValueError:  # a date that the calendar does not have
            return node.value

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.add_at(key, f"{kind_of(key)} stands where a key is expected.", "put the key in quotes.", path)
                continue
            here = (*path, key.value)
            if here in self.nodes:
                line = self.nodes[here].start_mark.line + 1
                self.add_at(key, f"this key stands already in line {line}.", "keep one of the two.", here)
                continue
            self.keys[here], self.nodes[here] = key, child
            value = self.value(child, here)
            if value is not None or here[0] not in FIELDS:
                found[key.value] = value
        return found

    def sequence(self, node: yaml.SequenceNode, path: Path) -> list[Any]:
        found: list[Any] = []
        for child in node.value:
            here = (*path, len(found))
            self.nodes[here] = child
            value = self.value(child, here)
            if value is not None or here[0] not in FIELDS:
                found.append(value)
        return found

    def bullets(self, node: yaml.SequenceNode, path: Path, depth: int = 0) -> Iterator[str]:
        """A list as Markdown bullets; what stands below `- parent:`, or in a list of its own, is nested."""
        indent = "  " * depth
        for child in node.value:
            match child:
                case yaml.ScalarNode(value=text):
                    if text := text.strip():
                        yield f"{indent}- " + text.replace("\n", f"\n{indent}  ")
                case yaml.SequenceNode():
                    yield from self.bullets(child, path, depth + 1)
                case yaml.MappingNode(value=[(yaml.ScalarNode(value=parent), yaml.SequenceNode() as children)]):
                    yield f"{indent}- {parent}"
                    yield from self.bullets(children, path, depth + 1)
                case _:
                    mend = "put the whole bullet in quotes, or write the section as a literal block (|)."
                    self.add_at(child, "a colon and a space make a mapping of this bullet.", mend, path)

    # Plain values to a card.

    def proper(self, slug: str) -> str:
        """The slug, or the nearest proper one (possibly empty) and a problem."""
        if SLUG.fullmatch(slug):
            return slug
        proper = slugified(slug)
        self.add(
            f"the file's name {slug!r} is not a slug: small letters, digits and single underscores.",
            f"rename the file to {proper or 'an English name in snake_case'}.yaml.",
            ("slug",),
        )
        return proper

    def check_topic(self, fields: dict[str, Any], topics: Mapping[str, str]) -> None:
        topic = fields.get("topic")
        if isinstance(topic, str) and topic.strip() and topic.strip() not in topics:
            slugs = {name: slug for slug, name in topics.items()} | {slug: slug for slug in topics}
            close = nearest(topic, slugs)
            mend = f"write `topic: {slugs[close]}`" if close else "take one that it has"
            self.add(f"{topic!r} is not a topic of this library.", f"{mend} ({', '.join(topics)}).", ("topic",))
            del fields["topic"]

    def warn_of_unknown_keys(self, fields: dict[str, Any], extra: dict[str, Any]) -> None:
        for key in extra:
            self.warn_of_unknown((key,), FIELDS, "a card")
        for name, model in _ENTRIES.items():
            entries = fields.get(name)
            for i, entry in enumerate(entries if isinstance(entries, list) else ()):
                for key in entry.keys() - model.model_fields.keys() if isinstance(entry, dict) else ():
                    self.warn_of_unknown((name, i, key), tuple(model.model_fields), f"an entry of {name}")

    def warn_of_unknown(self, path: Path, known: tuple[str, ...], owner: str) -> None:
        close = nearest(str(path[-1]).split(":")[0], known)
        mend = f"if `{close}: ...` was meant, write that" if close else f"the fields are {', '.join(known)}"
        told = f"{owner} has no such field; it is kept as it stands."
        self.add_at(self.keys[path], told, f"{mend}.", path, "warning")

    def valid(self, fields: dict[str, Any]) -> tuple[Card | None, set[Path]]:
        """The card without what breaks a rule, and the paths of that; no card when it is the title."""
        try:
            return Card.model_validate(fields), set()
        except ValidationError as error:
            details = error.errors(include_url=False)
        bad: set[Path] = set()
        for detail in details:
            path = detail["loc"]
            self.add(*explain(detail, self.nodes.get(path)), path)
            bad.add(path[:-1] if len(path) > 1 and path[-1] in _REQUIRED else path)
        if ("title",) in bad:
            return None, bad
        # Rules about a whole field are tried only when its parts are in order: so once more.
        card, more = self.valid(_without(bad, fields))
        return card, bad | more

    def named(self, card: Card, fields: dict[str, Any], bad: set[Path]) -> Iterator[Named]:
        """The other cards, demos and checks that the card names, without what breaks a rule."""
        for field, key in _NAMES.items():
            for i, entry in enumerate(fields[field] if getattr(card, field) else ()):
                path = (field, i, *key)
                if bad.isdisjoint({path, path[:2]}) and (name := entry.get(*key) if key else entry):
                    yield Named(name, *_place(self.node(path)), shown(path))

    # Problems and their places.

    def node(self, path: Path) -> yaml.Node:
        """The node at `path`, or else the nearest that holds it."""
        while path not in self.nodes:
            path = path[:-1]
        return self.nodes[path]

    def add(self, message: str, mend: str, path: Path = ()) -> None:
        self.add_at(self.node(path), message, mend, path)

    def add_at(
        self,
        node: yaml.Node,
        message: str,
        mend: str,
        path: Path,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        self.problems.append(Problem(message, mend, severity, self.file, *_place(node), shown(path)))

    def sorted_problems(self) -> tuple[Problem, ...]:
        return tuple(sorted(self.problems, key=lambda problem: (problem.line, problem.column)))


def _place(node: yaml.Node) -> tuple[int, int]:
    mark: Any = node.start_mark
    return mark.line + 1, mark.column + 1


def _without(bad: set[Path], value: Any, path: Path = ()) -> Any:
    """`value` without the entries at the paths `bad`."""
    if isinstance(value, dict):
        return {key: _without(bad, child, (*path, key)) for key, child in value.items() if (*path, key) not in bad}
    if isinstance(value, list):
        return [_without(bad, child, (*path, i)) for i, child in enumerate(value) if (*path, i) not in bad]
    return value
