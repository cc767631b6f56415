"""A library: folders of cards as an immutable snapshot. The only reader of notes.

Every `*.yaml` and `*.yml` below a folder is a card; names that start with `_` or `.` are passed over. A folder may hold
a `_library.yaml` that lists topics of its own, which replace the default ones for the cards in it and below:

    topics:
      robotics: 机器人
"""

import logging
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeVar

from kb.card import TOPICS, Card, Problem, Reading, Related, nearest, read, read_topics

SHIPPED = Path(__file__).resolve().parent.parent / "notes"
SETTINGS = "_library.yaml"
MAX_BYTES = 1 << 20
_CLOCK_TICK_NS = 20_000_000  # no file system that we run on counts time more coarsely than its kernel's tick

# Modification time (ns), size, and change time (ns), which alone tells that a file became readable.
_Stamp = tuple[int, int, int]
_Value = TypeVar("_Value", str, int)


class LibraryError(Exception):
    """A library that cannot be opened, and how to mend that."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(f"{message} Mend: {mend}")
        self.message, self.mend = message, mend


@dataclass
class _Found:
    """What one pass over the folders saw, paths as strings because there may be very many."""

    cards: dict[str, _Stamp] = field(default_factory=dict)
    settings: dict[str, _Stamp] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """A card file as it was read."""

    path: Path
    stamp: _Stamp
    topics: Mapping[str, str]
    reading: Reading


@dataclass(frozen=True, eq=False)
class Library:
    """The cards of some folders at one moment, and what is wrong with their files."""

    folders: tuple[Path, ...]
    cards: Mapping[str, Card]
    files: Mapping[str, Path]
    problems: tuple[Problem, ...]
    stamps: Mapping[Path, tuple[int, int]] = field(repr=False)  # card file -> (mtime in ns, size in bytes)
    topic_names: Mapping[str, str] = field(repr=False)  # slug -> Chinese name, of all topics that a card here may have
    _found: _Found = field(repr=False)
    _read: Mapping[str, _File] = field(repr=False)

    @classmethod
    def open(cls, *folders: str | Path) -> Self:
        """The library in `folders`, or else in those of $KB_NOTES, or else the one that ships with the program.

        Raises `LibraryError` when one of them is not a folder.
        """
        paths = tuple(Path(folder).expanduser().resolve() for folder in folders or _usual_folders())
        for path in paths:
            if not path.is_dir():
                raise LibraryError(
                    f"{_shown(str(path))} is {'a file, not a folder' if path.exists() else 'not there'}.",
                    "give the folder that holds the notes, or create it.",
                )
        return cls._snapshot(paths, _scan(paths), {})

    def reload(self) -> Self:
        """This library when no file changed; else a new one, for which only the changed files are read."""
        found = _scan(self.folders)
        return self if found == self._found else self._snapshot(self.folders, found, self._read)

    def __getitem__(self, slug: str) -> Card:
        return self.cards[slug]

    def __contains__(self, slug: object) -> bool:
        return slug in self.cards

    def __len__(self) -> int:
        return len(self.cards)

    def __iter__(self) -> Iterator[str]:
        return iter(self.cards)

    @cached_property
    def backlinks(self) -> Mapping[str, tuple[Related, ...]]:
        """slug -> the cards that name it as related, with their reasons."""
        found = defaultdict[str, list[Related]](list)
        for slug, card in self.cards.items():
            for related in card.related:
                found[related.card].append(Related(card=slug, why=related.why))
        return MappingProxyType({slug: tuple(pointing) for slug, pointing in found.items()})

    @cached_property
    def topics(self) -> Mapping[str, int]:
        """How many cards each topic has, most first; so for tags, years and statuses."""
        return _counted(card.topic for card in self.cards.values() if card.topic)

    @cached_property
    def tags(self) -> Mapping[str, int]:
        return _counted(tag for card in self.cards.values() for tag in card.tags)

    @cached_property
    def years(self) -> Mapping[int, int]:
        return _counted(card.year for card in self.cards.values() if card.year is not None)

    @cached_property
    def statuses(self) -> Mapping[str, int]:
        return _counted(card.status for card in self.cards.values())

    @classmethod
    def _snapshot(cls, folders: tuple[Path, ...], found: _Found, known: Mapping[str, _File]) -> Self:
        problems = list(found.problems)
        topics_of = {}
        for path in found.settings:
            topics, wrong = _settings(path)
            topics_of[Path(path).parent] = topics
            problems += wrong

        files: dict[str, _File] = {}
        by_slug: dict[str, str] = {}
        for path, stamp in found.cards.items():
            topics = _topics_for(path, topics_of)
            file = known.get(path)
            if file is None or file.stamp != stamp or file.topics != topics:
                file = _File(Path(path), stamp, topics, _read_card(path, stamp, topics))
            files[path] = file
            problems += file.reading.problems
            if card := file.reading.card:
                first = by_slug.setdefault(card.slug, path)
                if first != path:
                    problems.append(_taken(card.slug, first, path))

        cards = {slug: card for slug, path in by_slug.items() if (card := files[path].reading.card)}
        problems += _dangling(cards, by_slug, files)
        used = {id(file.topics): file.topics for file in files.values()}.values() or [TOPICS]
        return cls(
            folders=folders,
            cards=MappingProxyType(cards),
            files=MappingProxyType({slug: files[path].path for slug, path in by_slug.items()}),
            problems=tuple(sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column))),
            stamps=MappingProxyType({file.path: file.stamp[:2] for file in files.values()}),
            topic_names=MappingProxyType({slug: name for topics in used for slug, name in topics.items()}),
            _found=found,
            _read=files,
        )


class LiveLibrary:
    """A library that follows its folders: `snapshot` is never older than about two seconds.

    A daemon thread looks for changes; `close` ends it. Threads may read `snapshot` at any time.
    """

    def __init__(self, library: Library) -> None:
        self.snapshot = library
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="library", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; the last snapshot stays."""
        self._closing.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> None:
        took = 0.0
        # A quarter of the time at most goes into looking, as far as the two seconds allow.
        while not self._closing.wait(min(max(0.3, 3 * took), 1.0)):
            start = time.perf_counter()
            try:
                self.snapshot = self.snapshot.reload()
            except Exception:
                logging.getLogger(__name__).exception("The library could not be read again; the last one stays.")
            took = time.perf_counter() - start


def _usual_folders() -> list[str | Path]:
    named = [folder for folder in os.environ.get("KB_NOTES", "").split(os.pathsep) if folder]
    return [*named] or [SHIPPED]


def _scan(folders: Iterable[Path]) -> _Found:
    """What stands in the folders now: one look at each entry, nothing read."""
    found = _Found()
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        _scan_folder(str(folder), found, seen)
    return found


def _scan_folder(folder: str, found: _Found, seen: set[tuple[int, int]]) -> None:
    try:
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # named twice, or a link that leads back up
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        found.problems.append(_unreadable(folder, error))
        return
    for entry in entries:
        try:
            if entry.name == SETTINGS:
                found.settings[entry.path] = _stamp(entry)
            elif entry.name.startswith(("_", ".")):
                continue
            elif entry.name.endswith((".yaml", ".yml")) and not entry.is_dir():
                found.cards[entry.path] = _stamp(entry)
            elif entry.is_dir():
                _scan_folder(entry.path, found, seen)
        except OSError as error:
            found.problems.append(_unreadable(entry.path, error))


def _stamp(entry: os.DirEntry[str]) -> _Stamp:
    status = entry.stat()
    return status.st_mtime_ns, status.st_size, status.st_ctime_ns


def _read_card(path: str, stamp: _Stamp, topics: Mapping[str, str]) -> Reading:
    changed, size, _ = stamp
    # A file that changed in this very tick could change again under the same stamp: read it in the next.
    if 0 <= (age := time.time_ns() - changed) < _CLOCK_TICK_NS:
        time.sleep((_CLOCK_TICK_NS - age) / 1e9)
    text = _text(path, size)
    if isinstance(text, Problem):
        return Reading(None, (text,))
    return read(text, slug=Path(path).stem, file=_shown(path), topics=topics)


def _text(path: str, size: int) -> str | Problem:
    if size > MAX_BYTES:
        return Problem(
            f"the file has {size:,} bytes, and a card may have {MAX_BYTES:,}.", "split it.", file=_shown(path)
        )
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return _unreadable(path, error)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8").split("\n")
        return Problem(
            f"the byte 0x{data[error.start]:02X} here is not UTF-8.",
            "save the file in UTF-8.",
            file=_shown(path),
            line=len(before),
            column=len(before[-1]) + 1,
        )


def _settings(path: str) -> tuple[Mapping[str, str], tuple[Problem, ...]]:
    """The topics that a `_library.yaml` gives its folder, and what is wrong with it."""
    text = _text(path, 0)
    if isinstance(text, Problem):
        return TOPICS, (text,)
    topics, problems = read_topics(text, file=_shown(path))
    return topics or TOPICS, problems


def _topics_for(path: str, topics_of: Mapping[Path, Mapping[str, str]]) -> Mapping[str, str]:
    """The topics of the nearest folder above that lists some."""
    if not topics_of:
        return TOPICS
    return next((topics_of[folder] for folder in Path(path).parents if folder in topics_of), TOPICS)


def _dangling(cards: Mapping[str, Card], by_slug: Mapping[str, str], files: Mapping[str, _File]) -> Iterator[Problem]:
    """A warning for each place where a card names one that is not there as related."""
    close_to = cache(lambda slug: nearest(slug, cards))  # many cards may lack the same one
    for slug, card in cards.items():
        path = by_slug[slug]
        for i, (related, place) in enumerate(zip(card.related, files[path].reading.related_at, strict=True)):
            if related.card not in cards:
                close = close_to(related.card)
                mend = f"write {close} if that was meant" if close else "write that card"
                message = f"there is no card {related.card}."
                field = f"related[{i}].card"
                yield Problem(message, f"{mend}, or delete this.", "warning", _shown(path), *place, field)


def _taken(slug: str, first: str, second: str) -> Problem:
    return Problem(
        f"the slug {slug} belongs to {_shown(first)} already; of the two files only that one is shown.",
        "rename or delete one of them.",
        file=_shown(second),
        line=1,
        column=1,
        field="slug",
    )


def _unreadable(path: str, error: OSError) -> Problem:
    return Problem(
        f"this cannot be read: {(error.strerror or 'unknown error').lower()}.",
        "put it back, or give yourself the right to read it.",
        file=_shown(path),
    )


def _shown(path: str) -> str:
    """A path as a person names it: from the current folder where it lies below."""
    return path.removeprefix(f"{Path.cwd()}{os.sep}")


def _counted(values: Iterable[_Value]) -> Mapping[_Value, int]:
    return MappingProxyType(dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))))
