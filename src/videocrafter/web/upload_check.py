"""Check an uploaded file by its content, in a process of its own that a crafted file may crash or hang.

An image is decoded and written again as a PNG, without anything but its pixels. A clip is decoded at every second and
kept as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from videocrafter.web.limits import Limits
from videocrafter.web.problems import Problem

_MEMORY_BYTES = 3 * 2**30
_BAD_FILE_STATUS = 4
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


@dataclass(frozen=True)
class Checked:
    """A file that was decoded."""

    kind: Literal["image", "clip"]
    suffix: str
    width: int
    height: int


def recognise(start: bytes) -> tuple[str, Literal["image", "clip"]]:
    """Return suffix and kind of a file by its first bytes. Raises Problem 415 for all others."""
    for offset, signature, suffix, kind in _SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            return suffix, kind
    raise Problem(415, "unknown-file-type", f"this file is not of a known type; {KINDS} are accepted")


def check_file(source: Path, target_stem: Path, limits: Limits) -> Checked:
    """Decode a file and store what is safe to use under `target_stem` with a suffix.

    Args:
        source: the received file, with the suffix that `recognise` returned; a clip is moved.
        target_stem: path of the result without its suffix.
        limits: bytes, pixels and seconds.

    Raises Problem 413, 415 or 422 that names the limit or the fault.
    """
    with source.open("rb") as file:
        suffix, kind = recognise(file.read(16))
    most = limits.image_bytes if kind == "image" else limits.clip_bytes
    if source.stat().st_size > most:
        name = f"{kind}_bytes"
        raise Problem(
            413, "file-too-large", f"a {kind} may have at most {most / 2**20:.0f} MiB", more={"limit": name}
        )
    arguments = {
        "source": str(source),
        "target": str(target_stem),
        "suffix": suffix,
        "kind": kind,
        "pixels": limits.image_pixels if kind == "image" else limits.clip_pixels,
        "seconds": limits.clip_seconds,
        "cpu_seconds": limits.check_seconds,
    }
    checked = Checked(**_run(arguments, limits))
    if checked.kind == "clip":
        source.replace(target_stem.with_suffix(checked.suffix))
    return checked


def read_recording(source: Path, limits: Limits) -> dict[str, Any]:
    """Return the settings in one of our files, whatever its name. Raises Problem 415 or 422."""
    return _run({"source": str(source), "kind": "recording", "cpu_seconds": limits.check_seconds}, limits)


def _run(arguments: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Run `_decode` in a process with limited memory and time."""
    command = [sys.executable, "-m", __name__, json.dumps(arguments)]
    try:
        # Time of the processor is limited inside; waiting for a busy machine is not the file's fault.
        done = subprocess.run(command, capture_output=True, timeout=4 * limits.check_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise _broken(f"decoding it takes more than {limits.check_seconds} s") from error
    if done.returncode == _BAD_FILE_STATUS:
        fault = json.loads(done.stdout)
        raise Problem(fault["status"], fault["code"], fault["detail"])
    if done.returncode:
        raise _broken("its decoder crashed, or needed too much time or memory")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _broken(why: str) -> Problem:
    return Problem(422, "broken-file", f"the file cannot be used: {why}; export it again, or choose another")


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
                raise _broken(f"it has {width}x{height} pixels")
            write_image(Path(arguments["target"]).with_suffix(".png"), image)
            return {"kind": kind, "suffix": ".png", "width": width, "height": height}
        info = probe(source)
        length_s = info.num_frames / info.fps
        if info.width * info.height > most:
            raise Problem(413, "too-many-pixels", f"a frame may have at most {most} pixels; scale the clip down")
        if length_s > arguments["seconds"]:
            raise Problem(413, "clip-too-long", f"a clip may take at most {arguments['seconds']} s; cut it first")
        # One frame at a time: all of them may not fit in memory.
        for second in range(int(length_s) + 1):
            read_frames(source, [min(second, (info.num_frames - 0.5) / info.fps)])
        return {"kind": kind, "suffix": arguments["suffix"], "width": info.width, "height": info.height}
    except TooManyPixelsError as error:
        raise Problem(413, "too-many-pixels", f"an image may have at most {most / 1e6:g} million pixels") from error
    except (MediaError, ValueError) as error:
        raise _broken(str(error).replace(str(source), "it")) from error


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
        raise _broken("it is damaged") from error


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
    except Problem as problem:
        fault = {"status": problem.status, "code": problem.code, "detail": problem.detail}
        sys.stdout.write(json.dumps(fault))
        return _BAD_FILE_STATUS
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
