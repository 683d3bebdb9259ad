"""Read and write videos: mp4, webm, gif, or a folder of PNGs, with the settings that made them.

Frames are uint8 `[T, H, W, 3]`: `T` frames, `H` rows, `W` columns, red, green, blue. `write_video` also takes floats
from 0 to 1.
Metadata is JSON. It is stored in the file (the comment of an mp4, webm or gif, a text chunk of each PNG) and in
`NAME.json` next to it, because many services strip comments from uploaded files.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from videocrafter.media.atomic_write import Content, write_all
from videocrafter.media.errors import MediaError, OutputExistsError
from videocrafter.media.image_file import read_image
from videocrafter.media.json_file import parse_json_object
from videocrafter.media.open_video import open_video
from videocrafter.media.output_checks import check_writable
from videocrafter.media.pixel_values import as_bytes
from videocrafter.media.video_encoding import CODECS, choose_codec, encode_gif, encode_png, encode_video
from videocrafter.media.video_reader import open_reader
from videocrafter.media.video_timing import Timing

_COMMENT = "Comment"  # the PNG keyword for free text
_PLAYBACK_FPS = "Playback-FPS"


@dataclass(frozen=True, kw_only=True)
class VideoInfo(Timing):
    """Size, rate and length of a video as a player shows it.

    Attributes:
        width: Columns (after rotation, with square pixels).
        height: Rows.
    """

    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class VideoClip:
    """Frames uint8 `[T, H, W, 3]`, and their constant frame rate."""

    frames: np.ndarray
    fps: float


def probe(path: str | Path) -> VideoInfo:
    """Return size, rate and length of a video file, or of a folder of PNGs written by `write_video`.

    Decodes the first frame at most. A file without an index of its frames is read to its end.

    Raises:
        MediaError: The file is missing, damaged, not a video, or a folder of PNGs without a playback rate.
    """
    path = Path(path)
    if path.is_dir():
        return _probe_folder(path)
    with open_reader(path, strict=False) as reader:
        height, width = reader.size
        return VideoInfo(**asdict(reader.timing), width=width, height=height)


def read_frames(
    path: str | Path, times_s: Sequence[float] | None = None, max_frames: int | None = None
) -> np.ndarray:
    """Read frames as uint8 `[T, H, W, 3]`, as a player shows them: upright and with square pixels.

    Args:
        path: A video file, or a folder of PNGs.
        times_s: Seconds from the first frame, in any order. For each time, the frame on screen is returned; after
            the end, the last frame. Decoding starts near each time. None reads all frames in order, however long
            each is shown; see `read_clip` for videos with a variable frame rate.
        max_frames: Read at most this many.

    Raises:
        MediaError: The file is missing, damaged or not a video.
        ValueError: A time is negative or not finite, or `max_frames` is below 1.
    """
    path = Path(path)
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames is {max_frames}; pass at least 1, or None for all")
    if times_s is not None:
        times_s = list(times_s)[:max_frames]
        wrong = [time for time in times_s if not (math.isfinite(time) and time >= 0)]
        if wrong or not times_s:
            raise ValueError(f"times_s holds {wrong or 'nothing'}; pass seconds from the first frame, 0 or more")
    if path.is_dir():
        return _read_folder(path, times_s, max_frames)
    with open_reader(path, strict=False) as reader:
        if times_s is None:
            return reader.first_frames(max_frames)
        order = np.argsort(times_s, kind="stable")
        return reader.frames_at([times_s[index] for index in order])[np.argsort(order)]


def read_clip(path: str | Path, max_frames: int | None = None) -> VideoClip:
    """Read the first `max_frames` frames, or all, at a constant rate: a variable rate is resampled by time.

    Raises:
        MediaError: The file is missing, damaged, not a video, or a folder of PNGs without a playback rate.
    """
    info = probe(path)
    if info.is_constant:
        return VideoClip(frames=read_frames(path, max_frames=max_frames), fps=info.fps)
    num_frames = min(info.num_even_frames, max_frames or info.num_even_frames)
    times_s = [(index + 0.5) / info.fps for index in range(num_frames)]
    return VideoClip(frames=read_frames(path, times_s), fps=info.fps)


def check_output(path: str | Path, *, overwrite: bool = False, codec: str | None = None) -> None:
    """Check, before a video is computed, that `write_video` can write it; creates the parent folder.

    Raises:
        OutputExistsError: The video or its metadata file exists and `overwrite` is false.
        MediaError: The suffix is unknown, the codec cannot be used, or `path` cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    choose_codec(suffix, codec)
    check_writable(path, folder=suffix == "", overwrite=overwrite, objection=_objection)
    if sidecar_path(path).exists() and not overwrite:
        raise OutputExistsError.of(sidecar_path(path))


def check_encodable(
    path: str | Path, height: int, width: int, playback_fps: float, *, codec: str | None = None
) -> None:
    """Check, before a video is computed, that its file can store this size and rate, by encoding one black frame.

    Raises:
        MediaError: The format or the codec does not support them.
    """
    suffix = _suffix(Path(path))
    if suffix:
        _encode(suffix, codec, [np.zeros((1, height, width, 3), np.uint8)], playback_fps, None)


def write_video(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray],
    playback_fps: float,
    metadata: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    codec: str | None = None,
) -> None:
    """Write a video completely or not at all.

    Args:
        path: `.mp4`, `.webm`, `.gif` (endless; rounded to 1/100 s), or a name without suffix for a folder of PNGs
            (lossless).
        frames: `[T, H, W, 3]`, uint8 or floats from 0 to 1, at least one frame; or an iterable of such arrays, as a
            long video is decoded, which need not exist all at once (except for a gif).
        playback_fps: Frames per second on the screen.
        metadata: JSON values by name, stored in the file and in `sidecar_path(path)`.
        overwrite: Whether an existing video and its metadata are replaced.
        codec: "h264" or "av1" in an `.mp4`, "vp9" or "av1" in a `.webm`; None for the first of them. H.264 pads odd
            sizes by one pixel, AV1 needs at least 32 pixels per side.

    Raises:
        OutputExistsError: The video or its metadata file exists and `overwrite` is false.
        MediaError: Unknown suffix, a codec or rate that the format does not support, or a `path` that cannot be
            written.
        ValueError: Frames or rate are not as described.
    """
    path = Path(path)
    # A complete video is checked now, an iterable while it is consumed.
    parts = list(_checked_parts([frames])) if isinstance(frames, np.ndarray) else _checked_parts(frames)
    if not (math.isfinite(playback_fps) and 0 < playback_fps <= 1000):
        raise ValueError(f"playback_fps is {playback_fps}; pass frames per second above 0 and up to 1000")
    check_output(path, overwrite=overwrite, codec=codec)
    text = None if metadata is None else _to_text(metadata)
    outputs: dict[Path, Content] = {path: _encode(_suffix(path), codec, parts, playback_fps, text)}
    if text is not None:
        outputs[sidecar_path(path)] = text.encode()
    write_all(outputs, overwrite=overwrite, objection=_objection)
    if text is None:
        sidecar_path(path).unlink(missing_ok=True)  # it describes the video that was just replaced


def sidecar_path(path: str | Path) -> Path:
    """Return the path of a video's metadata file: `rocket.mp4.json` for `rocket.mp4`."""
    path = Path(path)
    return path.with_name(f"{path.name}.json")


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read the metadata that `write_video` stored: from the file or, if it was stripped, from its metadata file.

    Args:
        path: A video, a folder of PNGs, or the `.json` itself.

    Returns:
        The metadata; empty if there is none.

    Raises:
        MediaError: The file is missing, damaged or not a video.
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
        if not isinstance(part, np.ndarray):
            raise ValueError(f"frames are {type(part).__name__}; expected arrays [T, H, W, 3], uint8 or 0 to 1")
        if part.ndim != 4 or part.shape[-1] != 3 or 0 in part.shape:
            raise ValueError(f"frames are {part.dtype} {list(part.shape)}; expected [T, H, W, 3], none empty")
        if size not in (None, part.shape[1:]):
            raise ValueError(
                f"frames of {list(part.shape[1:])} follow frames of {list(size)}; pass frames of one size"
            )
        size = part.shape[1:]
        yield as_bytes(part, "frames")
    if size is None:
        raise ValueError("there are no frames; pass at least one, [T, H, W, 3]")


def _encode(
    suffix: str, codec: str | None, parts: Iterable[np.ndarray], playback_fps: float, text: str | None
) -> Content:
    frames = (frame for part in parts for frame in part)
    if suffix in CODECS:
        return encode_video(frames, playback_fps, text, suffix=suffix, codec=codec)
    if suffix == ".gif":
        # A gif comment is ASCII, so other characters are written as JSON escapes.
        ascii_text = None if text is None else json.dumps(json.loads(text)).encode("ascii")
        return encode_gif(np.stack(list(frames)), playback_fps, ascii_text)
    chunks = {_PLAYBACK_FPS: repr(float(playback_fps))}
    if text is not None:
        chunks[_COMMENT] = text
    return {_frame_name(index): encode_png(frame, chunks) for index, frame in enumerate(frames)}


def _probe_folder(path: Path) -> VideoInfo:
    names = _frame_paths(path)
    chunks = _png_text(names[0])
    try:
        fps = float(chunks[_PLAYBACK_FPS])
    except (KeyError, ValueError):
        raise MediaError(
            f"the PNGs in {path} do not state a playback rate; choose a folder that videocrafter wrote"
        ) from None
    height, width = read_image(names[0]).shape[:2]
    return VideoInfo(num_frames=len(names), duration_s=len(names) / fps, fps=fps, width=width, height=height)


def _read_folder(path: Path, times_s: Sequence[float] | None, max_frames: int | None) -> np.ndarray:
    names = _frame_paths(path)
    if times_s is None:
        names = names[:max_frames]
    else:
        fps = _probe_folder(path).fps
        # The small addend: 1/3 s at 3 frames per second must find frame 1.
        names = [names[min(int(time * fps + 1e-6), len(names) - 1)] for time in times_s]
    pictures = [read_image(name) for name in names]
    if len({picture.shape for picture in pictures}) > 1:
        raise MediaError(f"{path} contains frames of different sizes; choose a video whose frames all have one size")
    return np.stack(pictures)


def _frame_paths(folder: Path) -> list[Path]:
    names = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".png")
    if not names:
        raise MediaError(f"the folder {folder} contains no PNG; choose a video file or a folder of PNG frames")
    return names


def _frame_name(index: int) -> str:
    return f"frame_{index:06d}.png"


def _is_frame_name(name: str) -> bool:
    return name.startswith("frame_") and name.endswith(".png") and name[6:-4].isdigit()


def _objection(folder: Path) -> str | None:
    other = sorted(path.name for path in folder.iterdir() if path.is_dir() or not _is_frame_name(path.name))
    return f"contains more than frames ({other[0]!r})" if other else None


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (*CODECS, ".gif", ""):
        raise MediaError(
            f"{path} ends in {path.suffix!r}; choose {', '.join(CODECS)}, .gif, or no suffix for a folder of PNGs"
        )
    return suffix


def _to_text(metadata: Mapping[str, Any]) -> str:
    # A prompt from the command line may contain bytes that are not text (lone surrogates). Escaped with a backslash,
    # they are valid JSON.
    text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, indent=1)
    return text.encode("utf-8", "backslashreplace").decode()


def _from_text(text: str | None) -> dict[str, Any] | None:
    try:
        return parse_json_object(text or "", "the recording")
    except ValueError:
        return None  # a comment by other software


def _read_sidecar(path: Path) -> dict[str, Any]:
    try:
        metadata = _from_text(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path} cannot be read ({error}); choose a file that videocrafter wrote") from error
    if metadata is None:
        raise MediaError(f"{path} contains no metadata; choose a file that videocrafter wrote")
    return metadata


def _read_comment(path: Path) -> str | None:
    if path.is_dir():
        return _png_text(_frame_paths(path)[0]).get(_COMMENT)
    with open_video(path) as video:
        metadata = video.container.metadata
        return metadata.get("comment") or metadata.get("COMMENT")  # a webm's tags are upper case


def _png_text(path: Path) -> Mapping[str, str]:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()  # some writers put their text after the pixels
            return dict(image.text) if isinstance(image, PngImageFile) else {}
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(f"{path} cannot be read as a PNG ({error}); it may be damaged or truncated") from error
