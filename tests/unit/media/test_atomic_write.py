"""Outputs appear complete or not at all, whatever interrupts the writer."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from videocrafter.media import atomic_write
from videocrafter.media.atomic_write import (
    is_leftover,
    move_folder,
    parts_folder,
    remove_leftovers,
    whole_file,
    whole_folder,
    write_all,
    write_text,
)
from videocrafter.media.errors import MediaError, OutputError, OutputExistsError

FULL = OSError(errno.ENOSPC, "No space left on device")


def put_file(path: Path, content: str, *, overwrite: bool = True) -> None:
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(content)


def put_folder(path: Path, content: str, *, overwrite: bool = True) -> None:
    with whole_folder(path, overwrite=overwrite) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_text(content)


def put_all(path: Path, content: str, *, overwrite: bool = True) -> None:
    write_all({path: content.encode(), path.with_suffix(".json"): content.encode()}, overwrite=overwrite)


def put_all_folder(path: Path, content: str, *, overwrite: bool = True) -> None:
    write_all({path: {"file": content.encode()}}, overwrite=overwrite, objection=lambda folder: None)


WRITERS = [put_file, put_folder, put_all, put_all_folder]
Writer = Callable[..., None]


def content_of(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("put", WRITERS)
def test_an_output_is_created_with_its_parent_and_replaced(tmp_path: Path, put: Writer) -> None:
    target = tmp_path / "new" / "target"
    put(target, "old", overwrite=False)
    with pytest.raises(OutputExistsError, match="target already exists"):
        put(target, "new", overwrite=False)
    assert set(content_of(tmp_path).values()) == {"old"}
    put(target, "new")
    assert set(content_of(tmp_path).values()) == {"new"}
    assert not [path for path in target.parent.iterdir() if is_leftover(path.name)]


@pytest.mark.parametrize("put", WRITERS)
@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("hard_links", [True, False])
def test_a_failed_rename_restores_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Writer, existing: bool, hard_links: bool
) -> None:
    """Every rename to a final name fails in turn."""
    target = tmp_path / "target"
    if existing:
        put(target, "old")
    before = content_of(tmp_path)
    rename, failing = Path.rename, 1
    while True:
        calls = 0

        def fail(old: Path, new: Path | str, failing: int = failing) -> None:
            nonlocal calls
            if not is_leftover(Path(new).name) and str(old).endswith(".part"):
                calls += 1
                if calls == failing:
                    raise OSError(errno.EIO, "Input/output error")
            rename(Path(old), new)

        def no_link(*_: object, **__: object) -> None:
            raise OSError(errno.ENOTSUP, "Operation not supported")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", fail)
            patch.setattr(Path, "replace", fail)
            if not hard_links:
                patch.setattr(os, "link", no_link)
            try:
                put(target, "new")
                break
            except OutputError:
                pass
        assert content_of(tmp_path) == before
        failing += 1
    assert failing > 1
    assert set(content_of(tmp_path).values()) == {"new"}


@pytest.mark.parametrize("put", [put_file, put_folder])
@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt(), FULL])
def test_an_error_while_writing_leaves_the_old_output(tmp_path: Path, put: Writer, error: BaseException) -> None:
    target = tmp_path / "target"
    put(target, "old")
    before = content_of(tmp_path)
    whole = whole_folder if put is put_folder else whole_file

    def fail_halfway() -> None:
        with whole(target, overwrite=True) as temporary:
            (temporary / "half" if put is put_folder else temporary).write_text("half")
            raise error

    expected, message = (OutputError, "target: the disk is full") if error is FULL else (type(error), None)
    with pytest.raises(expected, match=message):
        fail_halfway()
    assert content_of(tmp_path) == before


def test_an_output_error_is_both_an_os_error_and_a_media_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for expected in (OSError, MediaError):
        with pytest.raises(expected, match="part of the path is a file, not a folder"):
            put_file(tmp_path / "file" / "inside", "new")


def test_a_missing_source_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "target", overwrite=False):
        (tmp_path / "source").read_bytes()


def test_several_outputs_are_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.txt").write_bytes(b"old")
    write = atomic_write._write

    def fail_at_the_second(path: Path, content: atomic_write.Content) -> None:
        write(path, content)
        if content == b"second":
            raise FULL

    monkeypatch.setattr(atomic_write, "_write", fail_at_the_second)
    with pytest.raises(MediaError, match=r"cannot write .*new\.txt: the disk is full"):
        write_all({tmp_path / "old.txt": b"first", tmp_path / "new.txt": b"second"}, overwrite=True)
    assert content_of(tmp_path) == {"old.txt": "old"}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files cannot be listed here")
@pytest.mark.parametrize("put", WRITERS)
def test_content_is_flushed_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Writer
) -> None:
    flushed: list[tuple[str, bool]] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append((path.name, (tmp_path / "target").exists()))

    monkeypatch.setattr(os, "fsync", record)
    put(tmp_path / "target", "new")
    assert flushed[-1] == (tmp_path.name, True)
    assert [(name, is_there) for name, is_there in flushed[:-1] if is_there] == []
    if put in (put_folder, put_all_folder):
        assert "file" in [name for name, _ in flushed]
    assert any(is_leftover(name) for name, _ in flushed)


def test_parts_that_are_too_large_for_memory_are_moved(tmp_path: Path) -> None:
    with parts_folder(tmp_path / "out") as parts:
        (parts / "page").write_text("page")
        (parts / "pictures").mkdir()
        (parts / "pictures" / "0.webp").write_text("picture")
        (parts / "scratch").write_text("not needed")
        assert is_leftover(parts.name)
        write_all({tmp_path / "out" / name: parts / name for name in ("page", "pictures")})
    assert content_of(tmp_path / "out") == {"page": "page", "pictures/0.webp": "picture"}
    with parts_folder(tmp_path / "out") as parts:
        (parts / "page").write_text("another page")
        with pytest.raises(OutputExistsError):
            write_all({tmp_path / "out" / "page": parts / "page"})
    with pytest.raises(OutputError, match="disk is full"), parts_folder(tmp_path / "out"):
        raise FULL
    assert content_of(tmp_path / "out") == {"page": "page", "pictures/0.webp": "picture"}


def test_files_that_only_their_owner_can_read_become_readable(tmp_path: Path) -> None:
    """safetensors creates such files."""
    (tmp_path / "usual").touch()
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    with whole_file(tmp_path / "file", overwrite=False) as temporary:
        temporary.touch(mode=0o600)
    with whole_folder(tmp_path / "folder", overwrite=False) as temporary:
        (temporary / "file").touch(mode=0o600)
        (temporary / "script").touch(mode=0o700)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "folder/file", "folder/script")]
    assert modes == [usual, usual, 0o700]


def test_links_are_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("mine")
    (tmp_path / "target").symlink_to(tmp_path / "elsewhere")
    put_folder(tmp_path / "target", "new")
    assert content_of(tmp_path) == {"elsewhere/file": "mine", "target/inner/file": "new"}
    assert not (tmp_path / "target").is_symlink()


def test_a_folder_is_moved_over_another_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    move_folder(tmp_path / "new", tmp_path / "old")
    assert content_of(tmp_path) == {"old/file": "new"}


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "猫\n")
    assert (tmp_path / "a.txt").read_bytes() == "猫\n".encode()


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from videocrafter.media.atomic_write import whole_file, whole_folder, write_all
target, number = Path(sys.argv[2]), 0
while True:
    number += 1
    if sys.argv[1] == "file":
        with whole_file(target, overwrite=True) as temporary:
            temporary.write_text(f"{number}\\n" * 20000)
    elif sys.argv[1] == "all":
        write_all({target: (f"{number}\\n" * 20000).encode()}, overwrite=True)
    else:
        with whole_folder(target, overwrite=True) as temporary:
            for name in "abc":
                (temporary / name).write_text(f"{number}\\n" * 5000)
    print(number, flush=True)
"""


def write_for_ever(kind: str, target: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, kind, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def lines_of(target: Path) -> list[list[str]]:
    files = [target] if target.is_file() else sorted(target.iterdir())
    return [file.read_text().splitlines() for file in files]


@pytest.mark.parametrize("kind", ["file", "folder", "all"])
def test_a_killed_writer_leaves_a_complete_output_and_removable_leftovers(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    for wait in (0.0, 0.003, 0.007):
        process = write_for_ever(kind, target)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        # A kill in the middle of a replacement leaves the old folder set aside.
        [found] = [target] if target.exists() else list(tmp_path.glob(".*.old"))
        lines = lines_of(found)
        assert len({line for file in lines for line in file}) == 1
        assert [len(file) for file in lines] == ([5000] * 3 if kind == "folder" else [20000])
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] in ([target.name], [])


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_processes_that_write_the_same_target_do_not_destroy_each_others_output(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    processes = [write_for_ever(kind, target) for _ in range(2)]
    for _ in range(20):
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline(), "the writer failed"
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    [found] = [target] if target.exists() else list(tmp_path.glob(".*.old"))
    lines = lines_of(found)
    for process in processes:
        process.kill()
        process.communicate()
    assert len({line for file in lines for line in file}) == 1


@pytest.mark.parametrize("put", [put_file, put_folder])
def test_without_overwriting_only_one_of_several_writers_succeeds(tmp_path: Path, put: Writer) -> None:
    barrier, refused = threading.Barrier(8), []

    def write(number: int) -> None:
        barrier.wait()
        try:
            put(tmp_path / "target", str(number), overwrite=False)
        except OutputExistsError:
            refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7
    [content] = content_of(tmp_path).values()
    assert int(content) not in refused


def test_leftovers_of_this_and_earlier_versions_are_removed(tmp_path: Path) -> None:
    keep = {"mine.part", ".mine.part", ".0123456789abcdef.partial", "tmp-x", ".config"}
    remove = {".0123456789abcdef.part", ".fedcba9876543210.old", ".tmp-final", ".tmp-config.json"}
    for name in keep | remove - {".tmp-final"}:
        (tmp_path / name).touch()
    (tmp_path / ".tmp-final").mkdir()
    (tmp_path / ".tmp-final" / "file").touch()
    assert {name for name in keep | remove if is_leftover(name)} == remove
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == keep
    remove_leftovers(tmp_path / "missing")


def test_stale_partial_output_is_removed_when_something_is_written_next_to_it(tmp_path: Path) -> None:
    stale, busy, old = (tmp_path / name for name in (f".{'0' * 16}.part", f".{'1' * 16}.part", f".{'2' * 16}.old"))
    for path in (stale, busy):
        path.mkdir()
        (path / "file").touch()
    old.touch()
    for path in (stale / "file", stale, busy, old):
        os.utime(path, (0, 0))
    put_file(tmp_path / "target", "new")
    assert {path.name for path in tmp_path.iterdir()} == {busy.name, old.name, "target"}
