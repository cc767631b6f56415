"""Card files as they were read, kept in the cache folder: what did not change is not read again.

Derived, so it may be deleted at any time. Rows are added and deleted, never changed: a snapshot of a library finds the
versions that it saw for `OUTLIVED` seconds after the files changed.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from json import dumps, loads
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

import kb.card
from kb.cache import derived_folder
from kb.card import TOPICS, Reading
from kb.library.folders import Stamp

OUTLIVED = 3600  # seconds: the app holds an old snapshot for two of them, a command for minutes

_READING = TypeAdapter(Reading)
_TABLES = """
pragma journal_mode = wal;
pragma synchronous = normal;
create table if not exists file (
    id integer primary key autoincrement, path text, modified integer, size integer, changed integer, topics text,
    slug text, related text, faulty integer
);
create table if not exists reading (id integer primary key, json blob);
create table if not exists forgotten (id integer primary key, at real);
"""


class Kept(NamedTuple):
    """What is known of a version of a card file without reading it.

    `modified`, `size` and `changed` are its stamp; `topics` are those it was read with (`topics_key`); `slug` is ""
    when it holds no card; `related` are the slugs that the card names, joined by spaces; `faulty` tells that there are
    problems; `id` is 0 when the reading itself is not kept.
    """

    id: int
    path: str
    modified: int
    size: int
    changed: int
    topics: str
    slug: str
    related: str
    faulty: bool

    @property
    def stamp(self) -> Stamp:
        return self.modified, self.size, self.changed

    @property
    def version(self) -> str:
        """The path, then in another line what changes whenever the card might."""
        return f"{self.path}\n{(*self.stamp, self.topics)}"


class Readings:
    """The kept readings of some folders; safe to use from several threads and processes."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._lock = threading.Lock()
        try:
            sources = [Path(__file__), *sorted(Path(kb.card.__file__).parent.glob("*.py"))]
            self._open(derived_folder("cards", folders, sources) / "readings.db")
        except (sqlite3.Error, OSError) as error:
            logging.getLogger(__name__).warning("Card files will be read again next time: %s", error)
            self._open(None)

    def known(self) -> dict[str, Kept]:
        """The latest known version of each file, by path."""
        try:
            with self._lock:
                rows = self._db.execute("select * from file order by id")
                return {kept.path: kept for kept in map(Kept._make, rows)}
        except sqlite3.Error as error:
            logging.getLogger(__name__).warning("Every card file is read again: %s", error)
            return {}

    def reading(self, kept: Kept) -> Reading | None:
        """What a version of a file was read as; None when that is not kept any more."""
        try:
            with self._lock:
                row = self._db.execute("select json from reading where id = ?", (kept.id,)).fetchone()
            return _READING.validate_json(row[0]) if row else None
        except (sqlite3.Error, ValidationError):
            return None

    def keep(self, read: Iterable[tuple[str, Stamp, Mapping[str, str], Reading]]) -> list[Kept]:
        """Keeps what files were read as: for each its path and stamp, the topics that it was read with, the reading."""
        rows = [(_kept(*one), _json(one[-1])) for one in read]
        try:
            with self._lock, self._db:
                return [self._add(kept, json) if json else kept for kept, json in rows]
        except sqlite3.Error as error:  # a full disk, or another process that writes for very long
            logging.getLogger(__name__).warning("Card files will be read again next time: %s", error)
            return [kept for kept, _ in rows]

    def forget_all_but(self, current: Iterable[Kept]) -> None:
        """Forgets every other version; its reading is deleted only when no snapshot is likely to need it."""
        ids, now = {kept.id for kept in current}, time.time()
        try:
            with self._lock, self._db:
                gone = [row for row in self._db.execute("select id from file") if row[0] not in ids]
                self._db.executemany("delete from file where id = ?", gone)
                self._db.executemany("insert or ignore into forgotten values (?, ?)", [(*row, now) for row in gone])
                long_gone = self._db.execute("select id from forgotten where at <= ?", (now - OUTLIVED,)).fetchall()
                self._db.executemany("delete from reading where id = ?", long_gone)
                self._db.executemany("delete from forgotten where id = ?", long_gone)
        except sqlite3.Error as error:
            logging.getLogger(__name__).warning("Old versions of card files stay in the cache: %s", error)

    def _add(self, kept: Kept, json: bytes) -> Kept:
        added = self._db.execute("insert into file values (null, ?, ?, ?, ?, ?, ?, ?, ?)", kept[1:]).lastrowid or 0
        self._db.execute("insert into reading values (?, ?)", (added, json))
        return kept._replace(id=added)

    def _open(self, place: Path | None) -> None:
        try:
            self._db = _connected(place)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # damaged: the files are the truth
            if place is None:
                raise
            for file in place.parent.glob(f"{place.name}*"):
                file.unlink()
            self._db = _connected(place)


def _connected(place: Path | None) -> sqlite3.Connection:
    db = sqlite3.connect(place or ":memory:", timeout=10, check_same_thread=False)
    db.executescript(_TABLES)
    return db


def _kept(path: str, stamp: Stamp, topics: Mapping[str, str], reading: Reading) -> Kept:
    card = reading.card
    related = " ".join(related.card for related in card.related) if card else ""
    return Kept(0, path, *stamp, topics_key(topics), card.slug if card else "", related, bool(reading.problems))


def _json(reading: Reading) -> bytes:
    """A reading as it is kept; b"" when it cannot be.

    A file that holds no card may only have been unreadable for a moment, and unknown keys may hold what JSON cannot.
    """
    if reading.card is None:
        return b""
    json = _READING.dump_json(reading)
    return json if not reading.card.extra or _READING.validate_json(json) == reading else b""


def topics_key(topics: Mapping[str, str]) -> str:
    """Topics as `Kept` has them; "" for the default ones."""
    return "" if topics is TOPICS else dumps(dict(topics))


def topics_of(key: str) -> Mapping[str, str]:
    """The topics whose `topics_key` this is."""
    topics: Mapping[str, str] = loads(key) if key else TOPICS
    return topics
