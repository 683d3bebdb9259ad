"""Output files: their names, and all checks before anything is generated.

One video is written to OUT itself, several to OUT-000.mp4, OUT-001.mp4, … in the order of the prompts, all videos of
the first prompt first. The suffix selects the format: .mp4, .webm, .gif, or none for a folder of PNG files. Next to
each video is its recording, OUT.mp4.json.
"""

from __future__ import annotations

from pathlib import Path

_DIGITS = 3


def plan_outputs(output: Path, count: int) -> list[Path]:
    """Return the paths of `count` videos."""
    if count == 1:
        return [output]
    digits = max(_DIGITS, len(str(count - 1)))
    return [output.with_name(f"{output.stem}-{index:0{digits}d}{output.suffix}") for index in range(count)]


def check_outputs(
    outputs: list[Path],
    contact_sheet: Path | None,
    playback_fps: float | None,
    overwrite: bool,
    codec: str | None = None,
) -> None:
    """Raise ValueError if a file exists and `overwrite` is False, or a path cannot be written.

    An empty folder may always be filled with frames.
    """
    from videocrafter.media.output_checks import check_writable
    from videocrafter.media.video_encoding import MAX_GIF_FPS
    from videocrafter.media.video_file import check_output

    for path in outputs:
        check_output(path, overwrite=overwrite or is_empty_folder(path), codec=codec)
        if path.suffix.lower() == ".gif" and playback_fps is not None and playback_fps > MAX_GIF_FPS:
            raise ValueError(
                f"playback_fps must be at most {MAX_GIF_FPS:g} for a GIF, but is {playback_fps:g}; write an .mp4, or"
                " lower it"
            )
    if contact_sheet is not None:
        if contact_sheet.suffix.lower() != ".png":
            raise ValueError(f"contact_sheet must end in .png, but is {contact_sheet}")
        check_writable(contact_sheet, overwrite=overwrite)


def check_preview(preview: Path | None, outputs: list[Path], contact_sheet: Path | None, overwrite: bool) -> None:
    """Raise ValueError if the preview cannot be written, or would collide with another output."""
    from videocrafter.media.output_checks import check_writable

    if preview is None:
        return
    check_writable(preview, overwrite=overwrite)
    if contact_sheet is not None and contact_sheet.absolute() == preview.absolute():
        raise ValueError(f"--preview and --contact-sheet are both {preview}; give them different names")
    folders = [path.absolute() for path in outputs if path.suffix == ""]
    if any(folder in preview.absolute().parents for folder in folders):
        raise ValueError(f"preview must be outside the folder of frames, but is {preview}")


def is_empty_folder(path: Path) -> bool:
    """Return whether `path` is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())
