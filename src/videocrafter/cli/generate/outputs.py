"""Where videos go: predictable names, and every objection raised before anything is generated.

One video goes to OUT itself. Several go to OUT-000.mp4, OUT-001.mp4, … in the order of the prompts, all
videos of the first prompt first. The suffix decides the form: .mp4, .gif, or none for a folder of PNG files.
Beside each video goes a recording: OUT.mp4.json.
"""

from __future__ import annotations

from pathlib import Path

_DIGITS = 3


def plan_outputs(output: Path, count: int) -> list[Path]:
    """Paths of `count` videos."""
    if count == 1:
        return [output]
    digits = max(_DIGITS, len(str(count - 1)))
    return [output.with_name(f"{output.stem}-{index:0{digits}d}{output.suffix}") for index in range(count)]


def check_outputs(
    outputs: list[Path], contact_sheet: Path | None, playback_fps: float | None, overwrite: bool
) -> None:
    """Raise ValueError if something that must not be replaced is there, or a place cannot be written.

    An empty folder may always be filled with frames.
    """
    from videocrafter.media.atomic_write import check_writable
    from videocrafter.media.video_encoding import MAX_GIF_FPS
    from videocrafter.media.video_file import check_output

    for path in outputs:
        check_output(path, overwrite=overwrite or is_empty_folder(path))
        if path.suffix.lower() == ".gif" and playback_fps is not None and playback_fps > MAX_GIF_FPS:
            raise ValueError(f"a gif plays at most {MAX_GIF_FPS:g} frames per second, not {playback_fps:g}")
    if contact_sheet is not None:
        if contact_sheet.suffix.lower() != ".png":
            raise ValueError(f"the contact sheet {contact_sheet} must end in .png")
        check_writable(contact_sheet, overwrite=overwrite)


def check_preview(preview: Path | None, outputs: list[Path], contact_sheet: Path | None, overwrite: bool) -> None:
    """Raise ValueError if the preview cannot be written, or stands in the way of what is written later."""
    from videocrafter.media.atomic_write import check_writable

    if preview is None:
        return
    check_writable(preview, overwrite=overwrite)
    if contact_sheet is not None and contact_sheet.absolute() == preview.absolute():
        raise ValueError(f"the preview and the contact sheet are both to be {preview}; give them different names")
    folders = [path.absolute() for path in outputs if path.suffix == ""]
    if any(folder in preview.absolute().parents for folder in folders):
        raise ValueError(f"the preview {preview} lies in the folder that the frames go to; put it beside that")


def is_empty_folder(path: Path) -> bool:
    """Whether `path` is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())
