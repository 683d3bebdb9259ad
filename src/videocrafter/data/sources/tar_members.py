"""Members of tar files, listed in place: names and positions of their contents, and damage."""

from __future__ import annotations

import posixpath
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from typing import BinaryIO

from videocrafter.data.errors import BadSampleError
from videocrafter.data.locations import Location, open_url

# A hundred times what long names and timestamp records need. A corrupt header may claim gigabytes.
_LARGEST_HEADER = 1 << 20
# Tar records are 10 kB by default, but may be larger.
_LONGEST_END = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LONGEST_MAGIC = 5


@dataclass(kw_only=True)
class TarListing:
    """Contents of a tar file, in order.

    Attributes:
        members: regular files.
        odd: names and descriptions of links, devices and the like.
        problem: one line on damage, or None.
    """

    members: list[Location] = field(default_factory=list)
    odd: list[tuple[str, str]] = field(default_factory=list)
    problem: str | None = None

    def summary(self) -> str:
        """Return numbers of members by suffix, and an example, such as "2 .flac and 1 .json, such as 'a.flac'"."""
        names = [member.member for member in self.members] + [name for name, _ in self.odd]
        if not names:
            return "no members"
        counts = Counter(posixpath.splitext(name)[1].lower() or "files without suffix" for name in names)
        several = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(5))
        return f"{several}{' and others' if len(counts) > 5 else ''}, such as {names[0]!r}"


def list_members(url: str) -> TarListing:
    """Read the headers of a tar file up to its end or to the first damage."""
    found = TarListing()
    try:
        found.problem = _compression(url)
        if found.problem is not None:
            return found
        with open_url(url) as file, tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
            last = -1
            while (member := archive.next()) is not None:
                if archive.offset <= last:
                    raise tarfile.ReadError("a header points backwards")
                last = archive.offset
                if what := _oddity(member):
                    found.odd.append((member.name, what))
                else:
                    place = Location(url=url, offset=member.offset_data, size=member.size, member=member.name)
                    found.members.append(place)
            file.seek(archive.offset)
            end = file.read(_LONGEST_END + 1)
    except BadSampleError as error:
        found.problem = str(error)
        return found
    except (tarfile.TarError, OSError, EOFError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        found.problem = f"{url} is damaged or truncated ({error})"
        return found
    # The reader mistakes anything that is not a header for the end. The real end consists of zeros that fill the last
    # record. Zeros also occur in holes left by a download and between concatenated archives, but are longer or
    # followed by data.
    if not tarfile.BLOCKSIZE <= len(end) <= _LONGEST_END or end.count(0) < len(end):
        found.problem = f"{url} is damaged or truncated; samples before the damage are used"
    elif not found.members and not found.odd:
        found.problem = f"{url} is empty"
    return found


def _compression(url: str) -> str | None:
    """Return one line if the file is compressed as a whole, else None."""
    with open_url(url) as file:
        start = file.read(_LONGEST_MAGIC)
    form = next((form for magic, form in _COMPRESSED.items() if start.startswith(magic)), None)
    return (
        None if form is None else f"{url} is compressed with {form}; decompress it, because shards are read in place"
    )


class _Headers:
    """A tar file with a limit on the header sizes that its reader requests."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell, self.seek = file, file.tell, file.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._file.read(size)


def _oddity(member: tarfile.TarInfo) -> str | None:
    """Describe a member that is not a regular file, or return None for a regular one."""
    if member.issym() or member.islnk():
        return "a link"
    if member.issparse():
        return "a sparse file"
    if member.isreg():
        return None if min(member.size, member.offset_data) >= 0 else "a file of negative size"
    return "a folder" if member.isdir() else "a special file"
