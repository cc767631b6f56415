"""Libraries: what is found, what is told, what is read again."""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kb.card import TOPICS, Card, Related
from kb.library import SHIPPED, Library, LibraryError, LiveLibrary, files, folders, snapshot
from kb.library import kept as keeping
from kb.library.live import pause


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, text: str | bytes = "title: A card\n") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


Write = Callable[..., Path]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The slugs of the files that are parsed from here on."""
    slugs: list[str] = []
    real = files.read

    def read(text: str, **how: object) -> object:
        slugs.append(str(how["slug"]))
        return real(text, **how)

    monkeypatch.setattr(files, "read", read)
    return slugs


def test_cards_are_found_below_a_folder_and_hidden_ones_are_not(tmp_path: Path, write: Write) -> None:
    for name in ("b.yaml", "a.yml", "sub/deeper/c.yaml", "_draft.yaml", ".d.yaml", "_old/e.yaml", ".git/f.yaml"):
        write(name)
    write("g.txt", "not a card")
    library = Library.open(tmp_path)
    assert list(library) == ["a", "b", "c"]
    assert library.problems == ()
    assert library.folders == (tmp_path,)
    assert library.files["c"] == tmp_path / "sub/deeper/c.yaml"
    assert len(library) == 3
    assert "a" in library
    assert "_draft" not in library
    assert library["b"] == library.cards["b"] == Card(slug="b", title="A card")


def test_several_folders_are_one_library_and_the_same_folder_twice_is_read_once(tmp_path: Path, write: Write) -> None:
    write("one/a.yaml")
    write("two/b.yaml")
    library = Library.open(tmp_path / "one", tmp_path / "two", tmp_path / "one", tmp_path)
    assert list(library) == ["a", "b"]
    assert library.problems == ()


def test_an_empty_folder_is_an_empty_library(tmp_path: Path) -> None:
    library = Library.open(tmp_path)
    assert len(library) == 0
    assert library.problems == ()
    assert library.topic_names == TOPICS


def test_without_a_folder_the_environment_names_them_or_else_the_shipped_notes_open(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("one/a.yaml")
    write("two/b.yaml")
    monkeypatch.setenv("KB_NOTES", os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two")]))
    assert list(Library.open()) == ["a", "b"]
    monkeypatch.setenv("KB_NOTES", "")
    assert Library.open().folders == (Path(__file__).parents[2] / "notes",)


def test_the_shipped_notes_open_without_an_error() -> None:
    library = Library.open(SHIPPED)
    assert len(library) > 0
    assert [str(problem) for problem in library.problems if problem.severity == "error"] == []


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path, write: Write) -> None:
    with pytest.raises(LibraryError, match=r"nowhere is not there\. Mend: give the folder") as caught:
        Library.open(tmp_path / "nowhere")
    assert "create it" in caught.value.mend
    with pytest.raises(LibraryError, match="is a file, not a folder"):
        Library.open(write("a.yaml"))


def test_one_bad_card_never_hides_the_others(tmp_path: Path, write: Write) -> None:
    write("a.yaml", "title: A: B\n")
    write("b.yaml", b"title: caf\xe9\n")
    write("c.yaml", b"")
    write("d.yaml", "[" * 100_000)
    write("e.yaml", b"title: big\nKey: |\n  " + b"x" * files.MAX_BYTES)
    write("f.yaml", b"\x00\x01")
    write("good.yaml")
    library = Library.open(tmp_path)
    assert list(library) == ["good"]
    told = {Path(problem.file).name: problem for problem in library.problems}
    assert sorted(told) == ["a.yaml", "b.yaml", "c.yaml", "d.yaml", "e.yaml", "f.yaml"]
    assert "0xE9 here is not UTF-8" in told["b.yaml"].message
    assert (told["b.yaml"].line, told["b.yaml"].column) == (1, 11)
    assert "1,048,576" in told["e.yaml"].message


def test_the_place_of_a_byte_that_is_not_utf_8_counts_characters(tmp_path: Path, write: Write) -> None:
    write("a.yaml", "title: a\nKey: 中文 ".encode() + b"\xff")
    (problem,) = Library.open(tmp_path).problems
    assert (problem.line, problem.column) == (2, 9)


def test_a_file_is_named_from_the_current_folder(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("notes/a.yaml", "")
    monkeypatch.chdir(tmp_path)
    assert Library.open("notes").problems[0].file == str(Path("notes/a.yaml"))
    monkeypatch.chdir(tmp_path / "notes")
    assert Library.open(tmp_path / "notes").problems[0].file == "a.yaml"


def test_a_link_to_nothing_and_a_link_back_up_do_no_harm(tmp_path: Path, write: Write) -> None:
    write("a.yaml")
    (tmp_path / "broken.yaml").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    library = Library.open(tmp_path)
    assert list(library) == ["a"]
    (problem,) = library.problems
    assert problem.file.endswith("broken.yaml")
    assert "no such file" in problem.message


def test_what_is_neither_a_file_nor_a_folder_is_told_and_not_read(tmp_path: Path, write: Write) -> None:
    write("a.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zeros.yaml").symlink_to("/dev/zero")
    (tmp_path / "_library.yaml").symlink_to("/dev/zero")
    library = Library.open(tmp_path)
    assert list(library) == ["a"]
    assert [Path(problem.file).name for problem in library.problems] == ["_library.yaml", "pipe.yaml", "zeros.yaml"]
    assert all("neither a file nor a folder" in problem.message for problem in library.problems)


def test_settings_may_be_as_long_as_a_card_and_no_longer(tmp_path: Path, write: Write) -> None:
    write("_library.yaml", b"topics: {robotics: \xe6\x9c\xba}\n#" + b" " * files.MAX_BYTES)
    (problem,) = Library.open(tmp_path).problems
    assert "more than 1,048,576 bytes" in problem.message


def test_a_slug_in_two_files_is_told_with_both_and_the_first_wins(tmp_path: Path, write: Write) -> None:
    first = write("one/a.yaml", "title: First\n")
    second = write("two/a.yaml", "title: Second\n")
    library = Library.open(tmp_path)
    assert library["a"].title == "First"
    assert library.files["a"] == first
    (problem,) = library.problems
    assert problem.file == str(second)
    assert str(first) in problem.message
    first.unlink()
    library = library.reload()
    assert library["a"].title == "Second"
    assert library.problems == ()


def test_a_related_card_that_is_not_there_is_a_warning_with_its_place_and_the_nearest(
    tmp_path: Path, write: Write
) -> None:
    write("a.yaml", "title: a\nrelated:\n  - {card: 3, why: bad}\n  - {card: cutmx}\n  - card: zzz\n  - card: a\n")
    write("cutmix.yaml")
    bad, near, far = Library.open(tmp_path).problems
    assert bad.field == "related[0].card"
    assert bad.severity == "error"
    assert (near.severity, near.line, near.column, near.field) == ("warning", 4, 12, "related[1].card")
    assert "cutmx" in near.message
    assert "write cutmix" in near.mend
    assert (far.severity, far.line, far.column) == ("warning", 5, 11)
    assert "write that card" in far.mend


def test_backlinks_tell_who_points_here_and_why(tmp_path: Path, write: Write) -> None:
    write("a.yaml", "title: a\nrelated: [{card: c, why: extends it}]\n")
    write("b.yaml", "title: b\nrelated: [{card: c}, {card: a, why: competes}]\n")
    write("c.yaml")
    assert Library.open(tmp_path).backlinks == {
        "c": (Related(card="a", why="extends it"), Related(card="b")),
        "a": (Related(card="b", why="competes"),),
    }


def test_a_folder_may_have_topics_of_its_own(tmp_path: Path, write: Write) -> None:
    write("robots/_library.yaml", "topics: {robotics: 机器人}\n")
    write("robots/arms/a.yaml", "title: a\ntopic: robotics\n")
    write("robots/b.yaml", "title: b\ntopic: sampling\n")
    write("c.yaml", "title: c\ntopic: sampling\n")
    library = Library.open(tmp_path)
    assert [card.topic for card in library.cards.values()] == ["sampling", "robotics", None]
    assert library.topic_names == {**TOPICS, "robotics": "机器人"}
    (problem,) = library.problems
    assert problem.file.endswith("b.yaml")
    assert "(robotics)" in problem.mend


def test_topics_that_change_are_applied_to_the_cards_they_concern(
    tmp_path: Path, write: Write, parsed: list[str]
) -> None:
    write("one/a.yaml", "title: a\ntopic: robotics\n")
    write("two/b.yaml")
    library = Library.open(tmp_path)
    assert len(library.problems) == 1
    parsed.clear()
    settings = write("one/_library.yaml", "topics: {robotics: 机器人}\n")
    library = library.reload()
    assert library.problems == ()
    assert library["a"].topic == "robotics"
    assert parsed == ["a"]
    settings.write_text("topics: [robotics]\n")
    assert [Path(p.file).name for p in library.reload().problems] == ["_library.yaml", "a.yaml"]
    settings.unlink()
    assert [Path(p.file).name for p in library.reload().problems] == ["a.yaml"]


def test_reload_gives_the_same_library_when_nothing_changed(tmp_path: Path, write: Write, parsed: list[str]) -> None:
    write("a.yaml")
    write("b.yaml", "title: [\n")
    library = Library.open(tmp_path)
    parsed.clear()
    assert library.reload() is library
    write("notes.txt", "no card")
    assert library.reload() is library
    assert parsed == []


def test_reload_reads_the_changed_files_only(tmp_path: Path, write: Write, parsed: list[str]) -> None:
    for name in ("a", "b", "c", "d"):
        write(f"{name}.yaml")
    before = Library.open(tmp_path)
    parsed.clear()
    write("a.yaml", "title: Edited\n")
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "c.yaml").rename(tmp_path / "renamed.yaml")
    write("new.yaml")
    after = before.reload()
    assert sorted(parsed) == ["a", "new", "renamed"]
    assert list(after) == ["a", "d", "new", "renamed"]
    assert after["a"].title == "Edited"
    assert after["d"] is before["d"]
    assert list(before) == ["a", "b", "c", "d"]
    assert before["a"].title == "A card"


def test_an_edit_of_the_same_length_in_the_same_tick_of_the_clock_is_not_missed(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(status: os.stat_result) -> tuple[int, int, int]:
        mtime, size, ctime = stamp(status)
        return mtime - mtime % 10_000_000, size, ctime - ctime % 10_000_000

    stamp = folders.stamp
    monkeypatch.setattr(folders, "stamp", coarse)
    for i in range(20):
        write("a.yaml", f"title: Card {i % 10}\n")
        library = Library.open(tmp_path)
        write("a.yaml", f"title: Card {(i + 1) % 10}\n")
        assert library.reload()["a"].title == f"Card {(i + 1) % 10}"


def test_a_half_written_file_is_told_and_then_forgotten(tmp_path: Path, write: Write) -> None:
    write("a.yaml", "title: a\n")
    write("b.yaml")
    library = Library.open(tmp_path)
    write("a.yaml", "title: a\ntags: [x, ")
    library = library.reload()
    assert list(library) == ["b"]
    assert len(library.problems) == 1
    write("a.yaml", "title: a\ntags: [x, y]\n")
    library = library.reload()
    assert library["a"].tags == ("x", "y")
    assert library.problems == ()


def test_a_file_that_becomes_readable_is_read(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.yaml")
    real = Path.open

    def refuse(self: Path, *how: object, **more: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    library = Library.open(tmp_path)
    assert "permission denied" in library.problems[0].message
    monkeypatch.setattr(Path, "open", real)
    path.chmod(0o640)
    assert list(library.reload()) == ["a"]


def test_a_folder_that_goes_away_is_told_and_its_return_is_seen(tmp_path: Path, write: Write) -> None:
    write("notes/a.yaml")
    library = Library.open(tmp_path / "notes")
    (tmp_path / "notes").rename(tmp_path / "elsewhere")
    library = library.reload()
    assert len(library) == 0
    assert "no such file or directory" in library.problems[0].message
    (tmp_path / "elsewhere").rename(tmp_path / "notes")
    assert list(library.reload()) == ["a"]


def test_what_one_library_read_another_need_not_read(tmp_path: Path, write: Write, parsed: list[str]) -> None:
    write("a.yaml", "title: One\nrelated: [{card: b, why: because}]\ntags: [x]\nadded: 2026-11-21\nKey: $\\lambda$\n")
    write("b.yaml", "title: Two\nrelated: [{card: bb}]\nodd: key\n")
    write("sub/_library.yaml", "topics: {robotics: 机器人}\n")
    write("sub/c.yaml", "title: Three\ntopic: robotics\n")
    first = Library.open(tmp_path)
    assert sorted(parsed) == ["a", "b", "c"]
    parsed.clear()
    second = Library.open(tmp_path)
    assert dict(second.cards) == dict(first.cards)
    assert second.problems == first.problems != ()
    assert second.backlinks == first.backlinks
    assert second.topic_names == first.topic_names
    assert parsed == []
    write("sub/_library.yaml", "topics: {vision: 视觉}\n")
    assert "robotics" in " ".join(problem.message for problem in Library.open(tmp_path).problems)
    assert parsed == ["c"]


def test_a_file_that_holds_no_card_is_read_again_by_the_next_library(
    tmp_path: Path, write: Write, parsed: list[str]
) -> None:
    write("a.yaml", "title: [\n")
    assert len(Library.open(tmp_path).problems) == 1
    assert len(Library.open(tmp_path).problems) == 1
    assert parsed == ["a", "a"]


def test_unknown_keys_come_back_as_they_were_read(tmp_path: Path, write: Write) -> None:
    write("a.yaml", "title: A\nday: 2026-11-21\nbytes: !!binary aGk=\n")
    write("b.yaml", "title: B\nlist: [1, {x: 2.5}]\n")
    first = Library.open(tmp_path)
    assert dict(Library.open(tmp_path).cards) == dict(first.cards)


def test_a_snapshot_keeps_its_cards_while_their_files_change(tmp_path: Path, write: Write) -> None:
    write("a.yaml", "title: Before\n")
    Library.open(tmp_path)
    before = Library.open(tmp_path)  # has not asked for the card
    write("a.yaml", "title: After\n")
    assert before.reload()["a"].title == "After"
    assert before["a"].title == "Before"


def test_a_snapshot_keeps_its_cards_while_another_library_opens_without_them(tmp_path: Path, write: Write) -> None:
    edited, deleted = write("edited.yaml", "title: Before\n"), write("deleted.yaml")
    Library.open(tmp_path)
    before = Library.open(tmp_path)
    edited.write_text("title: After\n")
    deleted.unlink()
    Library.open(tmp_path)
    assert before["edited"].title == "Before"
    assert before["deleted"].title == "A card"


def test_readings_that_no_snapshot_needs_any_more_are_deleted(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def kept() -> int:
        Library.open(tmp_path)
        with closing(sqlite3.connect(next(cache.glob("cards/*/*/readings.db")))) as db:
            (count,) = db.execute("select count(*) from reading").fetchone()
        return int(count)

    write("a.yaml")
    assert kept() == 1
    write("a.yaml", "title: Edited\n")
    assert kept() == 2
    monkeypatch.setattr(keeping, "OUTLIVED", 0)
    write("a.yaml", "title: Edited again\n")
    assert kept() == 1


def test_what_is_not_kept_any_more_is_read_again_with_the_topics_of_its_folder(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "OUTLIVED", 0)
    write("_library.yaml", "topics: {robotics: 机器人}\n")
    write("a.yaml", "title: Before\ntopic: robotics\n")
    Library.open(tmp_path)
    before = Library.open(tmp_path)
    write("a.yaml", "title: After\ntopic: robotics\n")
    Library.open(tmp_path)
    assert (before["a"].title, before["a"].topic) == ("After", "robotics")


@pytest.mark.parametrize("harm", ["damaged", "emptied", "unwritable"])
def test_a_library_opens_whatever_became_of_the_cache(harm: str, tmp_path: Path, write: Write, cache: Path) -> None:
    write("notes/a.yaml", "title: A\n")
    Library.open(tmp_path / "notes")
    library = Library.open(tmp_path / "notes")
    if harm == "damaged":
        for file in cache.glob("cards/*/*/*"):
            file.write_bytes(b"no database" * 1000)
    else:
        shutil.rmtree(cache)
    if harm == "unwritable":
        cache.write_text("a file, not a folder")
    assert Library.open(tmp_path / "notes")["a"].title == "A"
    assert library["a"].title == "A"


def test_topics_tags_and_years_are_counted_most_first(tmp_path: Path, write: Write) -> None:
    write("a.yaml", "title: a\ntopic: losses\ntags: [x, y]\nyear: 2017\n")
    write("b.yaml", "title: b\ntopic: sampling\ntags: [y]\nyear: 2018\n")
    write("c.yaml", "title: c\ntopic: sampling\nyear: 2018\n")
    library = Library.open(tmp_path)
    assert list(library.topics.items()) == [("sampling", 2), ("losses", 1)]
    assert list(library.tags.items()) == [("y", 2), ("x", 1)]
    assert list(library.years.items()) == [(2018, 2), (2017, 1)]


def test_versions_change_with_the_files_and_their_topics(tmp_path: Path, write: Write) -> None:
    write("a.yaml", "title: A\n")
    write("b.yaml", "title: B\n")
    before = Library.open(tmp_path)
    write("a.yaml", "title: A!\n")
    after = before.reload()
    assert after.versions["a"] != before.versions["a"]
    assert after.versions["b"] == before.versions["b"]
    write("_library.yaml", "topics: {vision: 视觉}\n")
    assert after.reload().versions["b"] != after.versions["b"]


def test_of_two_libraries_each_tells_the_versions_that_the_other_lacks(tmp_path: Path, write: Write) -> None:
    for name in ("same", "edited", "deleted"):
        write(f"{name}.yaml")
    before = Library.open(tmp_path)
    write("edited.yaml", "title: Edited\n")
    write("added.yaml")
    (tmp_path / "deleted.yaml").unlink()
    for after in (before.reload(), Library.open(tmp_path)):
        assert after.versions_beyond(before) == {slug: after.versions[slug] for slug in ("added", "edited")}
        assert before.versions_beyond(after) == {slug: before.versions[slug] for slug in ("deleted", "edited")}
        assert after.versions_beyond(after) == {}


def test_of_a_large_library_only_the_cards_asked_for_last_stay_in_memory(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "REMEMBERED", 2)
    for name in ("a", "b", "c"):
        write(f"{name}.yaml")
    library = Library.open(tmp_path)
    first = library["a"]
    assert library["b"] is library["b"]
    assert library["a"] is first
    assert [card.slug for card in library.cards.values()] == ["a", "b", "c"]
    assert library["a"] == first
    assert library["a"] is not first


def test_reading_many_files_shows_progress(tmp_path: Path, write: Write) -> None:
    for i in range(3):
        write(f"card_{i}.yaml")
    told: list[tuple[int, int]] = []
    Library.open(tmp_path, progress=lambda done, of: told.append((done, of)))
    assert told == [(3, 3)]


def test_a_library_cannot_be_changed(tmp_path: Path, write: Write) -> None:
    write("a.yaml")
    library = Library.open(tmp_path)
    with pytest.raises(TypeError):
        library.cards["b"] = library["a"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        library.cards = {}  # type: ignore[misc]


def wait_for(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_a_live_library_sees_edits_within_two_seconds(tmp_path: Path, write: Write) -> None:
    write("a.yaml")
    with LiveLibrary(Library.open(tmp_path)) as live:
        write("a.yaml", "title: Edited\n")
        assert wait_for(lambda: live.snapshot["a"].title == "Edited", 2)
        write("b.yaml")
        assert wait_for(lambda: "b" in live.snapshot, 2)
        (tmp_path / "a.yaml").unlink()
        assert wait_for(lambda: "a" not in live.snapshot, 2)


@pytest.mark.parametrize("took", [0.001, 0.1, 0.3, 0.5, 0.6])
def test_an_edit_that_one_look_just_missed_is_seen_by_the_next_within_two_seconds(took: float) -> None:
    assert took + pause(took) + took < 2


@pytest.mark.parametrize("took", [0.001, 0.6, 1, 10])
def test_looking_for_edits_takes_half_of_the_time_at_most(took: float) -> None:
    assert pause(took) >= took


def test_a_live_library_stays_the_same_object_until_something_changes(tmp_path: Path, write: Write) -> None:
    write("a.yaml")
    library = Library.open(tmp_path)
    with LiveLibrary(library) as live:
        time.sleep(1)
        assert live.snapshot is library


def test_a_live_library_survives_a_failure_and_says_so_once(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[Library] = []

    def fail(library: Library) -> Library:
        looks.append(library)
        raise ZeroDivisionError

    write("a.yaml")
    with monkeypatch.context() as broken:
        broken.setattr(Library, "reload", fail)
        live = LiveLibrary(Library.open(tmp_path))
        assert wait_for(lambda: len(looks) == 3, 5)
        assert list(live.snapshot) == ["a"]
    assert caplog.text.count("cannot be read again") == 1
    write("b.yaml")
    assert wait_for(lambda: "b" in live.snapshot, 2)
    live.close()


def test_a_closed_live_library_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    live = LiveLibrary(Library.open(tmp_path))
    assert threading.active_count() == before + 1
    live.close()
    assert threading.active_count() == before
