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

from videocrafter.web import upload_decoder
from videocrafter.web.limits import Limits
from videocrafter.web.problems import Problem
from videocrafter.web.upload_decoder import FAULT_STATUS, UploadFault, broken_file, recognise


@dataclass(frozen=True)
class Checked:
    """A file that was decoded."""

    kind: Literal["image", "clip"]
    suffix: str
    width: int
    height: int


def recognise_upload(start: bytes) -> tuple[str, Literal["image", "clip"]]:
    """Return suffix and kind of a file by its first bytes. Raises Problem 415 for all others."""
    try:
        return recognise(start)
    except UploadFault as fault:
        raise Problem(fault.status, fault.code, fault.detail) from fault


def check_file(source: Path, target_stem: Path, limits: Limits) -> Checked:
    """Decode a file and store what is safe to use under `target_stem` with a suffix.

    Args:
        source: the received file, with the suffix that `recognise` returned; a clip is moved.
        target_stem: path of the result without its suffix.
        limits: bytes, pixels and seconds.

    Raises Problem 413, 415 or 422 that names the limit or the fault.
    """
    with source.open("rb") as file:
        suffix, kind = recognise_upload(file.read(16))
    most = limits.image_bytes if kind == "image" else limits.clip_bytes
    if source.stat().st_size > most:
        name = f"{kind}_bytes"
        what = "an image" if kind == "image" else "a clip"
        text = f"{what} may have at most {most / 2**20:.3g} MiB; choose a smaller one"
        raise Problem(413, "file-too-large", text, more={"limit": name})
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
    command = [sys.executable, "-m", upload_decoder.__name__, json.dumps(arguments)]
    try:
        # Time of the processor is limited inside; waiting for a busy machine is not the file's fault.
        done = subprocess.run(command, capture_output=True, timeout=4 * limits.check_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise _broken(f"decoding it takes more than {limits.check_seconds} s") from error
    if done.returncode == FAULT_STATUS:
        fault = json.loads(done.stdout)
        raise Problem(fault["status"], fault["code"], fault["detail"])
    if done.returncode:
        raise _broken("its decoder crashed, or needed too much time or memory")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _broken(why: str) -> Problem:
    fault = broken_file(why)
    return Problem(fault.status, fault.code, fault.detail)
