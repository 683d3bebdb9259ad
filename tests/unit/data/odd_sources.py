"""Sources with odd and damaged files, and the expected fate of each of them."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tests.unit.data.odd_files import Fate, OddFile, damaged_files, odd_images, odd_videos

_CAPTION = "a caption"
_PAST_EVERY_LIMIT = 1 << 50


class Expected(NamedTuple):
    """One sample, or a whole archive, and its expected fate.

    Attributes:
        what: description of what is odd about it.
        source: label of its source.
        key: key within the source; empty for an archive.
        archive: the archive that contains it, or that it is. If the archive is reported as damaged, its samples need
            not be reported.
    """

    what: str
    source: str
    key: str
    fate: Fate
    archive: str = ""

    @property
    def is_archive(self) -> bool:
        """Whether this is an archive."""
        return bool(self.archive) and not self.key


class Sources(NamedTuple):
    """Specs of sources, and their expected contents."""

    lines: tuple[str, ...]
    expected: list[Expected]


def make_sources(folder: Path, count: int, seed: int) -> Sources:
    """Write at least `count` odd or damaged media files and archives, and good ones among them.

    Args:
        folder: empty folder.
        count: number of files; there are about 300 kinds.
        seed: determines the damage.
    """
    work = folder / "work"
    videos, images = list(odd_videos(work / "videos")), list(odd_images(work / "images"))
    lines: list[str] = []
    expected: list[Expected] = []
    share = max(0, count - len(videos) - len(images)) // 3
    for kind, files, number in (("video", videos, share), ("image", images, share)):
        whole = [file for file in files if file.fate == "whole"]
        files += islice(damaged_files(whole, seed), number)
        for form, write in (("folder", _write_folder), ("manifest", _write_manifest), ("tars", _write_tars)):
            part = files[("folder", "manifest", "tars").index(form) :: 3]
            line, found = write(folder / f"{form}-{kind}", [*part, whole[0]], kind)
            lines.append(line)
            expected += found
    line, found = _write_odd_archives(folder / "archives", images, share, seed)
    lines.append(line)
    expected += found
    for line, found in (_write_json_captions(folder / "json", images), _write_odd_pairs(folder / "pairs", images)):
        lines.append(line)
        expected += found
    line, found = _write_odd_rows(folder / "rows", images[0])
    return Sources((*lines, line), expected + found)


def _write_folder(folder: Path, files: list[OddFile], kind: str) -> tuple[str, list[Expected]]:
    folder.mkdir(parents=True)
    expected = []
    for number, file in enumerate(files):
        name = f"{number:04d}{file.suffix}"
        (folder / name).write_bytes(file.content)
        (folder / f"{number:04d}.txt").write_text(_CAPTION)
        expected.append(Expected(file.what, f"folder:{folder}", name, file.fate))
    return f"folder:{folder}?kind={kind}", expected


def _write_manifest(folder: Path, files: list[OddFile], kind: str) -> tuple[str, list[Expected]]:
    folder.mkdir(parents=True)
    expected, rows = [], []
    for number, file in enumerate(files):
        name = f"{number:04d}{file.suffix}"
        (folder / name).write_bytes(file.content)
        rows.append(json.dumps({"file": name, "caption": _CAPTION}))
        expected.append(Expected(file.what, f"manifest:{folder}/m.jsonl", name, file.fate))
    (folder / "m.jsonl").write_text("\n".join(rows))
    return f"manifest:{folder}/m.jsonl?root={folder}&kind={kind}", expected


def _write_tars(folder: Path, files: list[OddFile], kind: str) -> tuple[str, list[Expected]]:
    folder.mkdir(parents=True)
    expected = []
    for first in range(0, len(files), 10):
        path = folder / f"{first:04d}.tar"
        members = []
        for number, file in enumerate(files[first : first + 10]):
            members += [(f"{number}{file.suffix}", file.content), (f"{number}.txt", _CAPTION.encode())]
            expected.append(Expected(file.what, f"webdataset:{folder}", f"{path}#{number}", file.fate))
        path.write_bytes(tar(members))
    return f"webdataset:{folder}?kind={kind}", expected


def tar(
    members: list[tuple[str, bytes] | tarfile.TarInfo],
    form: int = tarfile.GNU_FORMAT,
    mode: Literal["w", "w:gz"] = "w",
) -> bytes:
    """Return a tar archive of files and of other members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a tar header that claims any size, including impossible ones."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (b"\xff" if size < 0 else b"\x80") + (size % (1 << 88)).to_bytes(11, "big")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


class _Archive(NamedTuple):
    """An archive: description, contents, fate as a whole, and fates of its samples by key."""

    what: str
    content: bytes
    fate: Fate
    samples: dict[str, Fate]


def _write_odd_archives(folder: Path, images: list[OddFile], count: int, seed: int) -> tuple[str, list[Expected]]:
    folder.mkdir(parents=True)
    picture = images[0].content
    kinds = [*_whole_archives(picture), *_archives_with_headers_that_lie(picture), *_no_archives(picture)]
    archives = kinds + list(islice(_damaged_archives(kinds, seed), max(0, count - len(kinds))))
    label, expected = f"webdataset:{folder}", []
    for number, archive in enumerate(archives):
        path = folder / f"{number:04d}.tar"
        path.write_bytes(archive.content)
        expected.append(Expected(archive.what, label, "", archive.fate, str(path)))
        expected += [
            Expected(archive.what, label, f"{path}#{key}", fate, str(path)) for key, fate in archive.samples.items()
        ]
    return f"webdataset:{folder}?kind=image", expected


def _pair(stem: str, picture: bytes, caption: bytes | None = _CAPTION.encode()) -> list[Any]:
    return [(f"{stem}.png", picture), *([] if caption is None else [(f"{stem}.txt", caption)])]


def _whole_archives(picture: bytes) -> Iterator[_Archive]:
    good = _pair("good", picture)
    yield _Archive("whole archive", tar([*good, *_pair("b", picture)]), "whole", {"good": "whole", "b": "whole"})
    for stem in (
        "../../out",
        "/abs/olute",
        "a/../../b",
        "..",
        " ",
        "x" * 150,
        "ü" * 80,
        "a\nb",
        "a#b?c=d&e",
        "\udcff",
    ):
        what = "archive of odd names"
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            content = tar([*good, *_pair(f"{stem}/c", picture)], form)
            yield _Archive(what, content, "whole", {"good": "whole", f"{stem}/c": "whole"})
    links = []
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
        link = tarfile.TarInfo(f"link{number}.png")
        link.type, link.linkname = kind, "/etc/hostname"
        links.append(link)
    fates: dict[str, Fate] = {"good": "whole", **{link.name: "bad" for link in links}}
    yield _Archive("archive with links", tar([*good, *links]), "whole", fates)
    content = tar([*good, *_pair("a", picture), *_pair("a", picture), ("a.png", picture)])
    fates = {"good": "whole", "a": "whole", "a (2)": "whole", "a (3)": "bad"}
    yield _Archive("archive with a name twice", content, "whole", fates)
    captions: list[tuple[str, bytes | None, Fate]] = [
        ("no caption", None, "bad"), ("empty caption", b"", "bad"), ("blank caption", b" \n\t", "bad"),
        ("caption of 2 MB", b"long " * 400_000, "bad"), ("caption that is no UTF-8", b"\xe9t\xe9 \xff\xfe", "bad"),
        ("caption in UTF-16", "word".encode("utf-16"), "whole"), ("caption with zeros", b"a\0b", "bad"),
    ]  # fmt: skip
    for what, caption, fate in captions:
        yield _Archive(what, tar([*good, *_pair("a", picture, caption)]), "whole", {"good": "whole", "a": fate})
    inner = tar(_pair("inner", picture))
    yield _Archive("archive in an archive", tar([*good, ("inner.tar", inner)]), "whole", {"good": "whole"})
    yield _Archive("archive of archives", tar([("inner.tar", inner)]), "bad", {})
    folder = tarfile.TarInfo("folder.png")
    folder.type = tarfile.DIRTYPE
    yield _Archive("archive with a folder", tar([folder, *good]), "whole", {"good": "whole", "folder.png": "bad"})


def _archives_with_headers_that_lie(picture: bytes) -> Iterator[_Archive]:
    start = tar(_pair("good", picture)).rstrip(b"\0")
    start += bytes(-len(start) % 512)
    end = bytes(1024)
    good: dict[str, Fate] = {"good": "whole"}
    for size in (-512, -1024, -(1 << 40)):
        yield _Archive("negative size", start + header("a.png", size) + end, "bad", good)
    for size in (1 << 33, _PAST_EVERY_LIMIT, 1 << 80):
        content = start + header("a.png", size) + end
        yield _Archive("huge size", content, "bad", {**good, "a": "bad"})
        for kind in (b"x", b"g", b"L", b"K"):
            yield _Archive("huge size of a name", start + header("a.png", size, kind) + end, "bad", good)
    content = start + header("a.png", _PAST_EVERY_LIMIT, b"S") + end
    yield _Archive("file with holes", content, "bad", {**good, "a.png": "bad"})
    for record in (b"99999999999999999999 path=x\n", b"0 path=x\n", b"20 size=-1000000000\n", b"14 size=1e309\n"):
        lying = header("p", len(record), b"x") + record + bytes(-len(record) % 512)
        yield _Archive("records that lie", start + lying + start + end, "either", {})
    again = header("p", 20, b"x") + b"20 comment=aaaaaaaa\n".ljust(512, b"\0")
    yield _Archive("records without end", start + again * 3000 + end, "bad", good)


def _no_archives(picture: bytes) -> Iterator[_Archive]:
    whole = tar(_pair("good", picture))
    good: dict[str, Fate] = {"good": "whole"}
    yield _Archive("compressed archive", gzip.compress(whole), "bad", {})
    for content in (b"", bytes(10240), b"no archive at all\n" * 99, b"PK\x03\x04" + bytes(99), picture):
        yield _Archive("no archive", content, "bad", {})
    yield _Archive("two archives in one", whole + whole, "bad", good)
    yield _Archive("archive with a hole behind it", whole + bytes(1 << 21), "bad", good)


def _damaged_archives(whole: list[_Archive], seed: int) -> Iterator[_Archive]:
    """Yield endlessly: each archive truncated, with flipped bits, with holes of zeros, and so on."""
    kinds = [archive for archive in whole if archive.content]
    damages = damaged_files([OddFile("", "", archive.content, "whole") for archive in kinds], seed)
    for number, damage in enumerate(damages):
        archive = kinds[number % len(kinds)]
        if not _is_shorter_and_whole(archive.content, damage):
            samples: dict[str, Fate] = dict.fromkeys(archive.samples, "either")
            yield _Archive(f"archive, {damage.what}", damage.content, "either", samples)


def _is_shorter_and_whole(content: bytes, damage: OddFile) -> bool:
    """Return whether the damage may have left a valid archive, so that the loss cannot be detected."""
    if damage.what == "beginning lost":
        return (len(content) - len(damage.content)) % tarfile.BLOCKSIZE == 0
    # An archive ends in zeros, so zeros over the last members look like its end.
    return damage.what == "holes of zeros" and len(damage.content.rstrip(b"\0")) < len(content.rstrip(b"\0"))


def _write_json_captions(folder: Path, images: list[OddFile]) -> tuple[str, list[Expected]]:
    folder.mkdir(parents=True)
    picture = images[0].content
    records: list[tuple[str, bytes | None, Fate]] = [
        ("record", b'{"words": "a caption"}', "whole"),
        ("record with half a character", b'{"words": "a \\ud800 b"}', "bad"),
        ("record that is no UTF-8", b'{"words": "\xe9t\xe9"}', "bad"),
        ("no record", None, "bad"),
        ("empty record", b"", "bad"),
        ("record that is no JSON", b"{'words': 'a caption'}", "bad"),
        ("record cut off", b'{"words": "a capt', "bad"),
        ("record that is a list", b'["words"]', "bad"),
        ("record without the field", b'{"text": "a caption"}', "bad"),
        ("field that is no text", b'{"words": 5}', "bad"),
        ("field that is nothing", b'{"words": null}', "bad"),
        ("record without end", b"[" * 200_000, "bad"),
    ]
    label, expected, members = f"webdataset:{folder}", [], []
    path = folder / "0.tar"
    for number, (what, record, fate) in enumerate(records):
        members += [(f"{number}.png", picture), *([] if record is None else [(f"{number}.json", record)])]
        expected.append(Expected(what, label, f"{path}#{number}", fate))
    path.write_bytes(tar(members))
    return f"webdataset:{folder}?kind=image&caption=words", expected


def _write_odd_pairs(folder: Path, images: list[OddFile]) -> tuple[str, list[Expected]]:
    """Write a folder of pairs with odd names and odd captions."""
    folder.mkdir(parents=True)
    picture, label, expected = images[0].content, f"folder:{folder}", []

    def add(what: str, stem: str, caption: bytes | None, fate: Fate) -> None:
        (folder / f"{stem}.png").write_bytes(picture)
        if caption is not None:
            (folder / f"{stem}.txt").write_bytes(caption)
        expected.append(Expected(what, label, f"{stem}.png", fate))

    add("whole", "good", _CAPTION.encode(), "whole")
    for stem in (" ", "a b", "a'\"b", "%41", "a#b", "a?b", "a&b=c", "-rf", "ü" * 60, "a\nb", "x..", "{0..9}", "[a]*"):
        add("odd name", stem, _CAPTION.encode(), "whole")
    for stem in ("~home", "C:a"):
        add("name that could lead out", stem, _CAPTION.encode(), "bad")
    if sys.platform == "linux":
        add("name that is no UTF-8", os.fsdecode(b"\xff\xfe"), _CAPTION.encode(), "whole")
    captions: list[tuple[str, bytes | None, Fate]] = [
        ("no caption", None, "bad"), ("empty caption", b"", "bad"), ("blank caption", b" \n ", "bad"),
        ("caption of 2 MB", b"long " * 400_000, "bad"), ("caption that is no UTF-8", b"\xe9t\xe9", "bad"),
        ("caption with a mark", b"\xef\xbb\xbfwords", "whole"), ("caption with zeros", b"a\0b", "bad"),
    ]  # fmt: skip
    for number, (what, caption, fate) in enumerate(captions):
        add(what, f"caption{number}", caption, fate)
    if hasattr(os, "symlink"):
        for stem, target in (("nowhere", "/nowhere/at/all.png"), ("round", "round.png")):
            (folder / f"{stem}.png").symlink_to(target)
            (folder / f"{stem}.txt").write_text(_CAPTION)
            expected.append(Expected("link to nowhere", label, f"{stem}.png", "bad"))
    return f"folder:{folder}?kind=image", expected


def _write_odd_rows(folder: Path, image: OddFile) -> tuple[str, list[Expected]]:
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(image.content)
    rows: list[tuple[str, dict[str, Any], str, Fate]] = [
        ("whole", {"image": "a.png", "caption": _CAPTION}, "a.png", "whole"),
        ("row twice", {"image": "./a.png", "caption": _CAPTION}, "./a.png", "whole"),
        ("row twice", {"image": "./a.png", "caption": _CAPTION}, "./a.png", "whole"),
        ("half a character in a row", {"image": "././a.png", "caption": "\ud800 x"}, "././a.png", "bad"),
        ("path that leads out", {"image": "../rows/a.png", "caption": _CAPTION}, "../rows/a.png", "bad"),
        ("path that leads out", {"image": "/etc/hostname", "caption": _CAPTION}, "/etc/hostname", "bad"),
        ("path that leads out", {"image": "http://a.invalid/a.png", "caption": "x"}, "http://a.invalid/a.png", "bad"),
        ("path of nothing", {"image": "b.png", "caption": _CAPTION}, "b.png", "bad"),
        ("path of nothing", {"image": "\ud800.png", "caption": _CAPTION}, "\ud800.png", "bad"),
        ("path of nothing", {"image": "n" * 5000, "caption": _CAPTION}, "n" * 5000, "bad"),
        ("path with a zero", {"image": "a\0.png", "caption": _CAPTION}, "a\0.png", "bad"),
        ("no path", {"image": None, "caption": _CAPTION}, "", "bad"),
        ("path that is a number", {"image": 7, "caption": _CAPTION}, "7", "bad"),
        ("path that is a folder", {"image": ".", "caption": _CAPTION}, ".", "bad"),
        ("no caption in a row", {"image": "a.png/../a.png"}, "a.png/../a.png", "bad"),
        ("no caption in a row", {"image": ".//a.png", "caption": None}, ".//a.png", "bad"),
        ("two captions, one empty", {"image": ".///a.png", "caption": ["x", ""]}, ".///a.png#0", "whole"),
        ("two captions, one empty", {}, ".///a.png#1", "bad"),
    ]
    manifest = folder / "m.jsonl"
    manifest.write_text("\n".join(json.dumps(row) for _, row, _, _ in rows if row))
    label = f"manifest:{manifest}"
    return f"{label}?root={folder}&kind=image", [Expected(what, label, key, fate) for what, _, key, fate in rows]
