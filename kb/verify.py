"""Runs the checks that claims name, and remembers what they measured.

Records live in the cache folder and are disposable; one counts only as long as its demo's source is what was measured.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from demos import kit
from kb.cache import cache_folder
from kb.card import Named, Problem, nearest
from kb.library import Library, shown
from kb.query import Query
from kb.search import search


@dataclass(frozen=True)
class Record:
    """What one check measured: the claim, the evidence (None where it could not measure), and when.

    Attributes:
        demo, check, claim, source, kind: the check, its sentence, where it comes from, and law, finding or report.
        measured, relation, reference, tolerance, why, quantity: its evidence.
        holds: whether the evidence is what the claim says.
        error: what kept it from measuring, empty otherwise.
        seconds: how long it took.
        digest: of the demo's source as it ran; an edited demo makes the record stale.
        at: when, ISO 8601, UTC.
    """

    demo: str
    check: str
    claim: str
    source: str
    kind: str
    measured: float | None
    reference: float | None
    relation: str
    tolerance: float | None
    why: str
    quantity: str
    holds: bool
    error: str
    seconds: float
    digest: str
    at: str

    @property
    def name(self) -> str:
        """The check as cards name it, `demo.check`."""
        return f"{self.demo}.{self.check}"

    @property
    def failed(self) -> bool:
        """Whether something enforced does not hold: reports are only shown."""
        return not self.holds and (self.kind != "report" or bool(self.error))


class VerifyError(Exception):
    """A name to verify that is neither a card, a demo nor a check."""


def claimed(library: Library) -> dict[str, tuple[str, ...]]:
    """The checks that cards' claims name, `demo.check` -> slugs of the cards, sorted."""
    names: dict[str, list[str]] = {}
    for slug in _answering(library, "has:claims"):
        for claim in library[slug].claims:
            if claim.check:
                names.setdefault(claim.check, []).append(slug)
    return {name: tuple(names[name]) for name in sorted(names)}


def select(library: Library, names: Iterable[str] = ()) -> list[str]:
    """The checks that some names stand for: a card's claims, all of a demo, one `demo.check`; none: all claimed.

    Raises:
        VerifyError: for a name that is none of these, with the nearest one.
    """
    entries = kit.catalog()
    chosen: dict[str, None] = {}
    for name in names:
        demo, _, check = name.partition(".")
        if check and demo in entries and check in entries[demo].checks:
            chosen[name] = None
        elif name in library or name in entries:
            if name in library:
                chosen |= dict.fromkeys(claim.check for claim in library[name].claims if claim.check)
            if name in entries:
                chosen |= dict.fromkeys(f"{name}.{check}" for check in entries[name].checks)
        else:
            near = nearest(name, [*library, *entries])
            hint = f" Did you mean {near}?" if near else " `kb demos` lists the demos."
            raise VerifyError(f"{name!r} is neither a card, a demo nor a check.{hint}")
    return list(chosen) if names else list(claimed(library))


def measure(name: str, params: kit.Knobs | None = None, *, demo: kit.Demo | None = None) -> Record:
    """Runs one check, `demo.check`, at the demo's defaults or the given parameters; `demo` if it was loaded before."""
    slug, _, check_name = name.partition(".")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        demo = demo or kit.load(slug)
        check = demo.checks[check_name]
    except (kit.DemoError, KeyError) as problem:
        error = str(problem) if isinstance(problem, kit.DemoError) else f"demos/{slug}.py has no check {check_name!r}."
        return Record(slug, check_name, "", "", "", None, None, "", None, "", "", False, error, 0.0, "", now)
    outcome = check.run(params or demo.params())
    evidence = outcome.evidence
    return Record(
        demo=slug,
        check=check_name,
        claim=check.says,
        source=check.source,
        kind=check.kind,
        measured=evidence.measured if evidence else None,
        reference=evidence.reference if evidence else None,
        relation=evidence.relation if evidence else "",
        tolerance=evidence.tolerance if evidence else None,
        why=evidence.why if evidence else "",
        quantity=evidence.quantity if evidence else "",
        holds=outcome.holds,
        error=outcome.error,
        seconds=round(outcome.seconds, 3),
        digest=demo.digest,
        at=now,
    )


def verify(checks: Iterable[str]) -> Iterator[Record]:
    """Runs checks one by one and remembers each record as it comes."""
    for name in checks:
        record = measure(name)
        remember([record])
        yield record


def problems(library: Library) -> list[Problem]:
    """What cards say of demos and checks that are not there, and demos that are broken."""
    entries = kit.catalog()
    found = [
        Problem(entry.error, "mend the file; the other demos are not affected.", file=f"demos/{slug}.py")
        for slug, entry in entries.items()
        if entry.error
    ]
    for slug in _answering(library, "has:demo OR has:claims"):
        file = shown(str(library.files[slug]))
        for named in (*library.named(slug, "demos"), *library.named(slug, "claims")):
            demo, _, check = named.name.partition(".")
            if demo not in entries:
                found.append(_missing(file, named, "demo", demo, entries))
            elif check and check not in entries[demo].checks:
                found.append(_missing(file, named, f"check of {demo} named", check, entries[demo].checks))
    return found


def _answering(library: Library, query: str) -> list[str]:
    """The slugs of the cards that answer, or of all cards while the index cannot tell.

    A large library is not read through for the few cards that name a demo.
    """
    results = search(library, query, limit=max(len(library), 1))
    return sorted(library if results.behind else (hit.slug for hit in results.hits))


def _missing(file: str, named: Named, what: str, name: str, known: Iterable[str]) -> Problem:
    near = nearest(name, known)
    mend = f"write {near}." if near else "`kb demos` lists the demos, docs/demos.md their checks."
    return Problem(f"there is no {what} {name}.", mend, "error", file, named.line, named.column, named.field)


def recorded() -> dict[str, Record]:
    """The remembered records by `demo.check`, without those whose demo has been edited since."""
    try:
        with closing(_store()) as store:
            rows = [json.loads(row) for (row,) in store.execute("select json from record order by name")]
    except (sqlite3.Error, OSError):
        return {}
    known = {field.name for field in fields(Record)}
    digests = kit.digests()
    records = (Record(**row) for row in rows if set(row) == known)
    return {record.name: record for record in records if digests.get(record.demo) == record.digest}


def verdicts(query: Query) -> dict[str, bool]:
    """For each measured check whether it holds, where the query asks for it; what `claim:failing` goes by."""
    if "claim:" not in str(query):
        return {}
    return {name: record.holds for name, record in recorded().items()}


def remember(records: Iterable[Record]) -> None:
    """Adds records to the store; a cache folder that cannot be written is no error."""
    rows = [(record.name, json.dumps(asdict(record), ensure_ascii=False)) for record in records]
    try:
        with closing(_store()) as store, store:
            store.executemany("insert or replace into record values (?, ?)", rows)
    except (sqlite3.Error, OSError):
        return


def _store() -> sqlite3.Connection:
    """The records in the cache folder, begun again when they cannot be read; several processes may write."""
    file = cache_folder() / "records.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connected(file)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        file.unlink()
        return _connected(file)


def _connected(file: Path) -> sqlite3.Connection:
    store = sqlite3.connect(file, timeout=10)
    store.execute("create table if not exists record (name text primary key, json text)")
    return store
