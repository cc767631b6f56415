"""The cards of some folders at one moment."""

import gc
import hashlib
import marshal
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Self, TypeVar

from kb.card import TOPICS, Card, Named, Problem, Reading, Related, nearest
from kb.library.files import read_card, read_settings, shown
from kb.library.folders import Found, Stamp, scan
from kb.library.kept import Kept, Readings, topics_key, topics_of

SHIPPED = Path(__file__).resolve().parent.parent.parent / "notes"
BATCH = 500  # files that are read before they are kept
REMEMBERED = 10_000  # readings that stay in memory; of a larger library, those that were asked for last

Progress = Callable[[int, int], None]
_Known = TypeVar("_Known")
_Value = TypeVar("_Value")
_Counted = TypeVar("_Counted", str, int)


class LibraryError(Exception):
    """A library that cannot be opened, and how to mend that."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(f"{message} Mend: {mend}")
        self.message, self.mend = message, mend


@dataclass(frozen=True, eq=False)
class Library:
    """The cards of some folders at one moment, and what is wrong with their files.

    A file is read once, by whichever process meets it first; after that its card comes from the cache, when somebody
    asks for it.
    """

    folders: tuple[Path, ...]
    cards: Mapping[str, Card] = field(repr=False)
    files: Mapping[str, Path] = field(repr=False)  # slug -> the file of the card
    topic_names: Mapping[str, str] = field(repr=False)  # slug -> Chinese name, of all topics that a card here may have
    _found: Found = field(repr=False)
    _wrong_settings: tuple[Problem, ...] = field(repr=False)
    _by_path: Mapping[str, Kept] = field(repr=False)
    _by_slug: Mapping[str, Kept] = field(repr=False)
    _memory: "_Memory" = field(repr=False)

    @classmethod
    def open(cls, *folders: str | Path, progress: Progress | None = None) -> Self:
        """The library in `folders`, or else in those of $KB_NOTES, or else the one that ships with the program.

        `progress(done, of)` counts the files that have to be read. Raises `LibraryError` when one of the folders is
        not a folder.
        """
        paths = tuple(Path(folder).expanduser().resolve() for folder in folders or _usual_folders())
        for path in paths:
            if not path.is_dir():
                raise LibraryError(
                    f"{shown(str(path))} is {'a file, not a folder' if path.exists() else 'not there'}.",
                    "give the folder that holds the notes, or create it.",
                )
        memory = _Memory(Readings(paths))
        with _collector_paused():
            known, found = memory.readings.known(), scan(paths)
        library = cls._snapshot(paths, found, known, memory, progress)
        if known != library._by_path:
            memory.readings.forget_all_but(library._by_path.values())
        return library

    def reload(self) -> Self:
        """This library when no file changed; else a new one, for which only the changed files are read."""
        found = scan(self.folders)
        if found == self._found:
            return self
        return self._snapshot(self.folders, found, self._by_path, self._memory)

    def __getitem__(self, slug: str) -> Card:
        return self.cards[slug]

    def __contains__(self, slug: object) -> bool:
        return slug in self._by_slug

    def __len__(self) -> int:
        return len(self._by_slug)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_slug)

    def named(self, slug: str, field: str) -> Iterator[Named]:
        """What a card names in `field` (related, demos or claims), and where."""
        return (named for named in self._memory.reading(self._by_slug[slug]).named if named.field.startswith(field))

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """slug -> the path of its file, then in another line what changes whenever the card might."""
        return _Lazy(self._by_slug, attrgetter("version"))

    def versions_beyond(self, other: Self) -> Mapping[str, str]:
        """Of `versions`, those that `other` lacks."""
        lacking = {slug: kept for slug, kept in self._by_slug.items() if other._by_slug.get(slug) != kept}
        return _Lazy(lacking, attrgetter("version"))

    @cached_property
    def fingerprint(self) -> str:
        """What changes whenever any card might."""
        return hashlib.blake2b(marshal.dumps((self._found.cards, self._found.settings), 2), digest_size=16).hexdigest()

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files."""
        problems = [*self._found.problems, *self._wrong_settings]
        for path, kept in self._by_path.items():
            if kept.faulty:
                problems += self._memory.reading(kept).problems
            if kept.slug and (first := self._by_slug[kept.slug]).path != path:
                problems.append(_taken(kept.slug, first.path, path))
        problems += self._dangling()
        told = [replace(problem, file=shown(problem.file)) for problem in problems]
        return tuple(sorted(told, key=lambda problem: (problem.file, problem.line, problem.column)))

    @cached_property
    def backlinks(self) -> Mapping[str, tuple[Related, ...]]:
        """slug -> the cards that name it as related, with their reasons."""
        pointing = defaultdict[str, list[str]](list)
        for slug, kept in self._by_slug.items():
            for target in dict.fromkeys(kept.related.split()):
                pointing[target].append(slug)

        def reasons(target: str) -> tuple[Related, ...]:
            return tuple(
                Related(card=slug, why=related.why)
                for slug in pointing[target]
                for related in self[slug].related
                if related.card == target
            )

        return _Lazy({target: target for target in pointing}, reasons)

    @cached_property
    def topics(self) -> Mapping[str, int]:
        """How many cards each topic has, most first; so for tags and years."""
        return _counted(card.topic for card in self.cards.values() if card.topic)

    @cached_property
    def tags(self) -> Mapping[str, int]:
        return _counted(tag for card in self.cards.values() for tag in card.tags)

    @cached_property
    def years(self) -> Mapping[int, int]:
        return _counted(card.year for card in self.cards.values() if card.year is not None)

    @classmethod
    def _snapshot(
        cls,
        folders: tuple[Path, ...],
        found: Found,
        known: Mapping[str, Kept],
        before: "_Memory",
        progress: Progress | None = None,
    ) -> Self:
        """The library of the files in `found`, of which those that changed since they were `known` are read."""
        problems: list[Problem] = []
        own: dict[str, Mapping[str, str]] = {}
        for path in found.settings:
            own[path.rpartition(os.sep)[0]], wrong = read_settings(path)
            problems += wrong
        keys = _topics_keys(found.cards, own) if own else {}
        topics = {topics_key(listed): listed for listed in (TOPICS, *own.values())}

        by_path = {
            path: kept
            for path, stamp in found.cards.items()
            if (kept := known.get(path)) and kept.stamp == stamp and kept.topics == keys.get(path, "")
        }
        memory = before.of(by_path)
        changed = [path for path in found.cards if path not in by_path]
        for start in range(0, len(changed), BATCH):
            batch = changed[start : start + BATCH]
            read = memory.read((path, found.cards[path], topics[keys.get(path, "")]) for path in batch)
            by_path |= zip(batch, read, strict=True)
            if progress:
                progress(start + len(batch), len(changed))
        if changed:
            by_path = {path: by_path[path] for path in found.cards}

        by_slug: dict[str, Kept] = {}
        for file in by_path.values():
            if file.slug:
                by_slug.setdefault(file.slug, file)
        used = [topics[key] for key in dict.fromkeys(keys.values())] or [TOPICS]
        return cls(
            folders=folders,
            cards=_Lazy(by_slug, memory.card),
            files=_Lazy(by_slug, lambda file: Path(file.path)),
            topic_names=MappingProxyType({slug: name for names in used for slug, name in names.items()}),
            _found=found,
            _wrong_settings=tuple(problems),
            _by_path=by_path,
            _by_slug=by_slug,
            _memory=memory,
        )

    def _dangling(self) -> Iterator[Problem]:
        """A warning for each place where a card names one that is not there as related."""
        close_to = cache(lambda slug: nearest(slug, self))  # many cards may lack the same one
        for slug, kept in self._by_slug.items():
            if all(related in self for related in kept.related.split()):
                continue
            for name, line, column, path in self.named(slug, "related"):
                if name not in self:
                    close = close_to(name)
                    mend = f"write {close} if that was meant" if close else "write that card"
                    told = f"there is no card {name}."
                    yield Problem(told, f"{mend}, or delete this.", "warning", kept.path, line, column, path)


class _Memory:
    """What the files of one snapshot were read as, as far as somebody asked for it lately."""

    def __init__(self, readings: Readings) -> None:
        self.readings = readings
        self._recalled = lru_cache(maxsize=REMEMBERED)(readings.reading)
        self._not_kept: dict[Kept, Reading] = {}

    def of(self, files: Mapping[str, Kept]) -> "_Memory":
        """What of this is about `files`, which are given by path."""
        memory = _Memory(self.readings)
        memory._recalled = self._recalled
        memory._not_kept = {kept: it for kept, it in self._not_kept.items() if files.get(kept.path) is kept}
        return memory

    def read(self, files: Iterable[tuple[str, Stamp, Mapping[str, str]]]) -> list[Kept]:
        """Reads files, each given by its path, stamp and topics, and keeps what they hold."""
        found = [(path, stamp, topics, read_card(path, stamp, topics)) for path, stamp, topics in files]
        kept = self.readings.keep(found)
        self._not_kept |= {file: reading for file, (*_, reading) in zip(kept, found, strict=True) if not file.id}
        return kept

    def reading(self, kept: Kept) -> Reading:
        found = self._not_kept.get(kept) or self._recalled(kept)
        if found is None:  # not kept any more: the file as it is now must do
            found = self._not_kept[kept] = read_card(kept.path, kept.stamp, topics_of(kept.topics))
        return found

    def card(self, kept: Kept) -> Card:
        card = self.reading(kept).card
        if card is None:
            raise KeyError(kept.slug)
        return card


class _Lazy(Mapping[str, _Value], Generic[_Known, _Value]):
    """A mapping whose values are made when they are asked for, from what is known of them."""

    def __init__(self, known: Mapping[str, _Known], make: Callable[[_Known], _Value]) -> None:
        self._known, self._make = known, make

    def __getitem__(self, key: str) -> _Value:
        return self._make(self._known[key])

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Spares the garbage collector the many small values of a large library, none of them garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _usual_folders() -> list[str | Path]:
    named = [folder for folder in os.environ.get("KB_NOTES", "").split(os.pathsep) if folder]
    return [*named] or [SHIPPED]


def _topics_keys(cards: Iterable[str], own: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """For each card file the key of the topics of the nearest folder above that lists some in `own`."""

    @cache
    def key(folder: str) -> str:
        above = (str(above) for above in (Path(folder), *Path(folder).parents))
        return topics_key(next((own[folder] for folder in above if folder in own), TOPICS))

    return {path: key(path.rpartition(os.sep)[0]) for path in cards}


def _taken(slug: str, first: str, second: str) -> Problem:
    return Problem(
        f"the slug {slug} belongs to {shown(first)} already; of the two files only that one is shown.",
        "rename or delete one of them.",
        file=second,
        line=1,
        column=1,
        field="slug",
    )


def _counted(values: Iterable[_Counted]) -> Mapping[_Counted, int]:
    return MappingProxyType(dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))))
