"""Videos in and out of files: mp4, gif, or a folder of PNGs, with the settings that made them.

Frames are uint8 `[T, H, W, 3]`: `T` frames, `H` rows, `W` columns, red, green, blue.
Metadata is stored in the file as JSON (the comment of an mp4 or gif, a text chunk of each PNG), and beside it
in `NAME.json`, because many services strip comments when a file is passed on.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from videocrafter.media.atomic_write import Content, check_writable, write_all
from videocrafter.media.errors import MediaError, OutputExistsError
from videocrafter.media.image_file import read_image
from videocrafter.media.video_decoding import decode_at, decode_first, open_video
from videocrafter.media.video_encoding import encode_gif, encode_mp4, encode_png

_COMMENT = "Comment"  # the PNG keyword for free text
_PLAYBACK_FPS = "Playback-FPS"


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video file says of itself; no more than its first frame is decoded to learn it.

    Attributes:
        num_frames: Number of frames, or None where the container does not tell.
        duration_s: Length in seconds.
        fps: Frames per second, on average.
        width: Columns as shown (after the rotation that phones store).
        height: Rows as shown.
    """

    num_frames: int | None
    duration_s: float
    fps: float
    width: int
    height: int


def probe(path: str | Path) -> VideoInfo:
    """Tell size, rate and length of a video file or of a folder of PNGs that `write_video` made.

    Raises:
        MediaError: The file is missing, damaged, no video, or a folder of PNGs without a playback rate.
    """
    path = Path(path)
    return _probe_folder(path) if path.is_dir() else _probe_file(path)


def read_frames(
    path: str | Path, times_s: Sequence[float] | None = None, max_frames: int | None = None
) -> np.ndarray:
    """Read frames as uint8 `[T, H, W, 3]`.

    Args:
        path: A video file, or a folder of PNGs.
        times_s: Seconds from the first frame, in any order; each gives the frame on screen at that time, and
            only the neighbourhood of these times is decoded. A time past the end gives the last frame.
            Without it, all frames are read in order.
        max_frames: Read at most this many.

    Raises:
        MediaError: The file is missing, damaged or no video.
        ValueError: A time is negative or not finite, or `max_frames` is below 1.
    """
    path = Path(path)
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames is {max_frames}; give at least 1, or None for all")
    if times_s is not None:
        times_s = list(times_s)[:max_frames]
        wrong = [time for time in times_s if not (math.isfinite(time) and time >= 0)]
        if wrong or not times_s:
            raise ValueError(f"times_s holds {wrong or 'nothing'}; give seconds from the first frame, 0 or more")
    if path.is_dir():
        pictures = _read_folder(path, times_s, max_frames)
    else:
        with open_video(path) as (container, stream):
            if times_s is None:
                pictures = decode_first(container, stream, max_frames)
            else:
                pictures = decode_at(container, stream, times_s)
    if not pictures:
        raise MediaError(f"{path} holds no frame that can be decoded; it may be damaged or cut off")
    if len({picture.shape for picture in pictures}) > 1:
        raise MediaError(f"{path} holds frames of different sizes; give a video whose frames are all of one size")
    return np.stack(pictures)


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Find out, before a video is computed, whether `write_video` can write it; creates the parent folder.

    Raises:
        OutputExistsError: The video, or the metadata beside it, exists and `overwrite` is false.
        MediaError: The suffix is unknown, or the place cannot be written.
    """
    path = Path(path)
    is_folder = _suffix(path) == ""
    check_writable(path, folder=is_folder, overwrite=overwrite, may_replace=_is_frame_name)
    if sidecar_path(path).exists() and not overwrite:
        raise OutputExistsError(
            f"{sidecar_path(path)} exists already; choose another name, or allow it to be replaced (--overwrite)"
        )


def write_video(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray],
    playback_fps: float,
    metadata: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a video whole or not at all.

    Args:
        path: `.mp4` (H.264; odd sizes are padded by one pixel), `.gif` (endless; rounded to 1/100 s), or a
            name without suffix for a folder of PNGs (lossless).
        frames: uint8 `[T, H, W, 3]`, at least one frame; or such arrays one after the other, as a long video is
            decoded, which never exist all at once (except in a gif).
        playback_fps: Frames per second on the screen.
        metadata: JSON values by name, stored in the file and beside it (`sidecar_path`).
        overwrite: Whether an existing video and its metadata are replaced.

    Raises:
        OutputExistsError: The video, or the metadata beside it, exists and `overwrite` is false.
        MediaError: Unknown suffix, a rate that the format cannot hold, or a place that cannot be written.
        ValueError: Frames or rate are not as described.
    """
    path = Path(path)
    # A whole video is looked at now, what is still to be made only when it comes.
    parts = list(_checked_parts([frames])) if isinstance(frames, np.ndarray) else _checked_parts(frames)
    if not (math.isfinite(playback_fps) and 0 < playback_fps <= 1000):
        raise ValueError(f"playback_fps is {playback_fps}; give frames per second above 0 and up to 1000")
    check_output(path, overwrite=overwrite)
    text = None if metadata is None else _to_text(metadata)
    outputs: dict[Path, Content] = {path: _encode(_suffix(path), parts, playback_fps, text)}
    if text is not None:
        outputs[sidecar_path(path)] = text.encode()
    write_all(outputs, overwrite=overwrite, may_replace=_is_frame_name)
    if text is None:
        sidecar_path(path).unlink(missing_ok=True)  # it describes the video that was just replaced


def sidecar_path(path: str | Path) -> Path:
    """Where the metadata of a video stands beside it: `rocket.mp4` has `rocket.mp4.json`."""
    path = Path(path)
    return path.with_name(f"{path.name}.json")


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read what `write_video` stored: from the file or, where it was stripped, from beside it.

    Args:
        path: A video, a folder of PNGs, or the `.json` itself.

    Returns:
        The metadata; empty where there is none.

    Raises:
        MediaError: The file is missing, damaged or no video.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        return _read_sidecar(path)
    text = _read_comment(path)
    metadata = _from_text(text)
    if metadata is None and sidecar_path(path).is_file():
        return _read_sidecar(sidecar_path(path))
    return metadata or {}


def _checked_parts(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    size = None
    for part in parts:
        if part.dtype != np.uint8 or part.ndim != 4 or part.shape[-1] != 3 or 0 in part.shape:
            raise ValueError(f"frames are {part.dtype} {list(part.shape)}; expected uint8 [T, H, W, 3], none empty")
        if size not in (None, part.shape[1:]):
            raise ValueError(f"frames of {list(part.shape[1:])} follow frames of {list(size)}; give one size")
        size = part.shape[1:]
        yield part
    if size is None:
        raise ValueError("there are no frames; give at least one, uint8 [T, H, W, 3]")


def _encode(suffix: str, parts: Iterable[np.ndarray], playback_fps: float, text: str | None) -> Content:
    frames = (frame for part in parts for frame in part)
    if suffix == ".mp4":
        return encode_mp4(frames, playback_fps, text)
    if suffix == ".gif":
        # The comment of a gif is ASCII, so other letters are written as JSON escapes.
        ascii_text = None if text is None else json.dumps(json.loads(text)).encode("ascii")
        return encode_gif(np.stack(list(frames)), playback_fps, ascii_text)
    chunks = {_PLAYBACK_FPS: repr(float(playback_fps))}
    if text is not None:
        chunks[_COMMENT] = text
    return {_frame_name(index): encode_png(frame, chunks) for index, frame in enumerate(frames)}


def _probe_file(path: Path) -> VideoInfo:
    with open_video(path) as (container, stream):
        num_frames = stream.frames or None
        duration_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if container.format.name == "gif":
            # A gif has no table of contents; its packets are counted, which decodes nothing.
            packets = [packet for packet in container.demux(stream) if packet.pts is not None]
            num_frames = len(packets)
            if packets and stream.time_base:
                duration_s = float((packets[-1].pts or 0) + (packets[-1].duration or 0)) * float(stream.time_base)
        if not duration_s and container.duration:
            duration_s = container.duration / 1_000_000  # the container counts in microseconds
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        if num_frames and duration_s:
            fps = num_frames / duration_s
        if not fps:
            raise MediaError(f"{path} does not tell its frame rate; convert it to mp4")
        if not duration_s and num_frames:
            duration_s = num_frames / fps
        frame = next(container.decode(stream), None) if container.format.name != "gif" else None
        turned = frame is not None and round(frame.rotation / 90) % 2 == 1
        width, height = (stream.height, stream.width) if turned else (stream.width, stream.height)
        return VideoInfo(num_frames=num_frames, duration_s=duration_s, fps=fps, width=width, height=height)


def _probe_folder(path: Path) -> VideoInfo:
    names = _frame_paths(path)
    chunks = _png_text(names[0])
    try:
        fps = float(chunks[_PLAYBACK_FPS])
    except (KeyError, ValueError):
        raise MediaError(f"the PNGs in {path} do not tell a playback rate; write them with videocrafter") from None
    height, width = read_image(names[0]).shape[:2]
    return VideoInfo(num_frames=len(names), duration_s=len(names) / fps, fps=fps, width=width, height=height)


def _read_folder(path: Path, times_s: Sequence[float] | None, max_frames: int | None) -> list[np.ndarray]:
    names = _frame_paths(path)
    if times_s is not None:
        fps = _probe_folder(path).fps
        # The small addend: 1/3 s at 3 frames per second must find frame 1.
        return [read_image(names[min(int(time * fps + 1e-6), len(names) - 1)]) for time in times_s]
    return [read_image(name) for name in names[:max_frames]]


def _frame_paths(folder: Path) -> list[Path]:
    names = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".png")
    if not names:
        raise MediaError(f"the folder {folder} holds no PNG; give a video file or a folder of PNG frames")
    return names


def _frame_name(index: int) -> str:
    return f"frame_{index:06d}.png"


def _is_frame_name(name: str) -> bool:
    return name.startswith("frame_") and name.endswith(".png") and name[6:-4].isdigit()


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".mp4", ".gif", ""):
        raise MediaError(f"{path} ends in {path.suffix!r}; choose .mp4, .gif, or no suffix for a folder of PNGs")
    return suffix


def _to_text(metadata: Mapping[str, Any]) -> str:
    # A prompt from the command line may hold bytes that are no text (lone surrogates). Written with a
    # backslash they are valid JSON again.
    text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, indent=1)
    return text.encode("utf-8", "backslashreplace").decode()


def _from_text(text: str | None) -> dict[str, Any] | None:
    try:
        value = json.loads(text or "")
    except ValueError:
        return None  # a comment that somebody else wrote
    return value if isinstance(value, dict) else None


def _read_sidecar(path: Path) -> dict[str, Any]:
    try:
        metadata = _from_text(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path} cannot be read ({error}); give a file that videocrafter wrote") from error
    if metadata is None:
        raise MediaError(f"{path} holds no metadata; give a file that videocrafter wrote")
    return metadata


def _read_comment(path: Path) -> str | None:
    if path.is_dir():
        return _png_text(_frame_paths(path)[0]).get(_COMMENT)
    with open_video(path) as (container, _):
        return container.metadata.get("comment")


def _png_text(path: Path) -> Mapping[str, str]:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()  # some writers put their text behind the pixels
            return dict(image.text) if isinstance(image, PngImageFile) else {}
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(f"{path} cannot be read as a PNG ({error}); it may be damaged or cut off") from error
