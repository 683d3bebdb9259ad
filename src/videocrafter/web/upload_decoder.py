"""Decode one untrusted file: the program of a process of its own, which the file may crash or hang.

Started by `upload_check` with limits of memory and time. Imports little, because it starts for every upload.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

_MEMORY_BYTES = 3 * 2**30
FAULT_STATUS = 4
"""Exit status when the file is at fault; standard output then holds the fault as JSON."""
_LARGEST_RECORDING = 2**20
_SIGNATURES: tuple[tuple[int, bytes, str, Literal["image", "clip"]], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", ".png", "image"),
    (0, b"\xff\xd8\xff", ".jpg", "image"),
    (8, b"WEBP", ".webp", "image"),
    (0, b"GIF8", ".gif", "clip"),
    (0, b"\x1aE\xdf\xa3", ".webm", "clip"),
    (4, b"ftyp", ".mp4", "clip"),
)
KINDS = "PNG, JPEG or WebP images, and MP4, WebM or GIF clips"


class UploadFault(Exception):  # noqa: N818 (of the file, not of the program)
    """A file that cannot be used: status and code of the answer, and what to do."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


def recognise(start: bytes) -> tuple[str, Literal["image", "clip"]]:
    """Return suffix and kind of a file by its first bytes. Raises UploadFault 415 for all others."""
    for offset, signature, suffix, kind in _SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            return suffix, kind
    raise UploadFault(415, "unknown-file-type", f"this file is not of a known type; {KINDS} are accepted")


def broken_file(why: str) -> UploadFault:
    """Return the fault of a file that cannot be decoded."""
    return UploadFault(422, "broken-file", f"the file cannot be used: {why}; export it again, or choose another")


def _decode(arguments: dict[str, Any]) -> dict[str, Any]:
    from videocrafter.media.errors import MediaError
    from videocrafter.media.image_file import TooManyPixelsError, read_image, write_image
    from videocrafter.media.video_file import probe, read_frames

    source, kind = Path(arguments["source"]), arguments["kind"]
    if kind == "recording":
        return _recording(source)
    most = arguments["pixels"]
    try:
        if kind == "image":
            image = read_image(source, max_pixels=most, name="the image")
            height, width = image.shape[:2]
            if min(height, width) < 2:
                raise broken_file(f"it has {width}x{height} pixels")
            write_image(Path(arguments["target"]).with_suffix(".png"), image)
            return {"kind": kind, "suffix": ".png", "width": width, "height": height}
        info = probe(source)
        length_s = info.num_frames / info.fps
        if info.width * info.height > most:
            raise UploadFault(413, "too-many-pixels", f"a frame may have at most {most} pixels; scale the clip down")
        if length_s > arguments["seconds"]:
            raise UploadFault(413, "clip-too-long", f"a clip may take at most {arguments['seconds']} s; cut it first")
        # One frame at a time: all of them may not fit in memory.
        for second in range(int(length_s) + 1):
            read_frames(source, [min(second, (info.num_frames - 0.5) / info.fps)])
        return {"kind": kind, "suffix": arguments["suffix"], "width": info.width, "height": info.height}
    except TooManyPixelsError as error:
        raise UploadFault(
            413, "too-many-pixels", f"an image may have at most {most / 1e6:g} million pixels"
        ) from error
    except (MediaError, ValueError) as error:
        raise broken_file(str(error).replace(str(source), "it")) from error


def _recording(source: Path) -> dict[str, Any]:
    from PIL import Image

    from videocrafter.media.json_file import parse_json_object
    from videocrafter.media.video_file import read_metadata

    with source.open("rb") as file:
        start = file.read(16)
    try:
        if start.lstrip()[:1] == b"{":
            return parse_json_object(source.read_bytes()[:_LARGEST_RECORDING], "the file")
        suffix, _ = recognise(start)
        if suffix == ".png":
            with Image.open(source, formats=("PNG",)) as image:
                return parse_json_object(getattr(image, "text", {}).get("Comment", "{}"), "the file")
        # The readers go by the suffix.
        named = source.with_name(f"{source.name}{suffix}")
        source.replace(named)
        try:
            return read_metadata(named)
        finally:
            named.replace(source)
    except (OSError, SyntaxError, ValueError) as error:
        raise broken_file("it is damaged") from error


def _main() -> int:
    arguments = json.loads(sys.argv[1])
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (arguments["cpu_seconds"], arguments["cpu_seconds"]))
    except (ImportError, ValueError, OSError):
        pass  # a system without such limits; the time limit of the parent remains
    try:
        result = _decode(arguments)
    except UploadFault as found:
        fault = {"status": found.status, "code": found.code, "detail": found.detail}
        sys.stdout.write(json.dumps(fault))
        return FAULT_STATUS
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
