"""Output files: their names, and all checks before anything is generated.

One video is written to OUT itself, several to OUT-000.mp4, OUT-001.mp4, … in the order of the prompts, all videos of
the first prompt first. The suffix selects the format: .mp4, .webm, .gif, or none for a folder of PNG files. Next to
each video is its recording, OUT.mp4.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from videocrafter.generation.request import GenerateOptions

if TYPE_CHECKING:
    from videocrafter.pipelines.settings import VideoRequest

_SUFFIXES = (".mp4", ".webm", ".gif")
_DIGITS = 3


def plan_outputs(output: Path, count: int) -> list[Path]:
    """Return the paths of `count` videos."""
    if count == 1:
        return [output]
    digits = max(_DIGITS, len(str(count - 1)))
    return [output.with_name(f"{output.stem}-{index:0{digits}d}{output.suffix}") for index in range(count)]


def check_names(outputs: list[Path], options: GenerateOptions) -> None:
    """Raise ValueError if an output would replace an input or another output, or lie inside it."""
    from videocrafter.media.video_file import sidecar_path

    if options.output.name.lower() in _SUFFIXES:
        raise ValueError(
            f"output is only a suffix, {str(options.output)!r}; write, for example, video{options.output}"
        )
    images = {"contact_sheet": options.contact_sheet, "preview": options.preview}
    for setting, image in images.items():
        if image is not None and image.suffix.lower() != ".png":
            raise ValueError(f"{setting} must end in .png, but is {image}")
    taken = {path.resolve(): "`output`" for video in outputs for path in (video, sidecar_path(video))}
    for setting, image in images.items():
        if image is not None:
            owner = _owner(taken, image)
            if owner is not None:
                raise ValueError(f"{setting} is {image}, which belongs to {owner}; choose another name")
            taken[image.resolve()] = f"`{setting}`"
    for option, path in _inputs(options):
        owner = _owner(taken, path)
        if owner is not None:
            raise ValueError(f"{owner} would replace {path}, the input of {option}; choose another name")


def _owner(taken: Mapping[Path, str], path: Path) -> str | None:
    """Return the setting that writes `path` or a folder around it, or None."""
    place = path.resolve()
    return next((taken[one] for one in (place, *place.parents) if one in taken), None)


def _inputs(options: GenerateOptions) -> Iterator[tuple[str, Path]]:
    images = dict.fromkeys(row.image for row in options.rows)
    files = {"image": [*images], "image_end": [options.image_end]}
    files |= {"video": [options.video], "continued": [options.continued]}
    for setting, paths in files.items():
        yield from ((f"`{setting}`", path) for path in paths if path is not None)
    yield from (("`lora`", lora.path) for lora in options.loras)
    if options.model is not None and Path(options.model).exists():
        yield "`model`", Path(options.model)


def check_outputs(outputs: list[Path], options: GenerateOptions) -> None:
    """Raise ValueError if a file exists and may not be overwritten, or a path cannot be written.

    An empty folder may always be filled with frames.
    """
    from videocrafter.media.output_checks import check_writable
    from videocrafter.media.video_file import check_output

    for path in outputs:
        check_output(path, overwrite=options.overwrite or is_empty_folder(path), codec=options.codec)
        check_playback_fps(path, options.playback_fps)
    for image in (options.contact_sheet, options.preview):
        if image is not None:
            check_writable(image, overwrite=options.overwrite)


def check_encodings(
    outputs: Sequence[Path], playback_fps: Sequence[float], request: VideoRequest, codec: str | None
) -> None:
    """Raise ValueError if a file cannot store the size or the rate of its video."""
    from videocrafter.media.video_file import check_encodable

    # All outputs have the same suffix.
    for path, rate in {rate: (path, rate) for path, rate in zip(outputs, playback_fps, strict=True)}.values():
        check_playback_fps(path, rate)
        check_encodable(path, request.height, request.width, rate, codec=codec)


def check_playback_fps(path: Path, playback_fps: float | None) -> None:
    """Raise ValueError if a file cannot be played at this rate."""
    from videocrafter.media.video_encoding import MAX_GIF_FPS

    if path.suffix.lower() == ".gif" and playback_fps is not None and playback_fps > MAX_GIF_FPS:
        raise ValueError(
            f"playback_fps must be at most {MAX_GIF_FPS:g} for a GIF, but is {playback_fps:g}; write an .mp4, or"
            " lower it"
        )


def is_empty_folder(path: Path) -> bool:
    """Return whether `path` is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())
