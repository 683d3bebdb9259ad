"""Export of a run's metrics, sample sheets and videos to TensorBoard, each stage under its name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videocrafter.training.tracking.log import sample_files

_log = logging.getLogger(__name__)

_MAX_FRAMES = 48
_MAX_GIF_FPS = 25.0


class TensorBoard:
    """Follows the log of one stage.

    Args:
        folder: receives the event files.
        step: steps already done; events of later steps are hidden.
        config: the run's configuration as text, shown at the start of the stage.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int, config: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)
        if step == 0:
            indented = "".join(f"    {line}\n" for line in config.splitlines())  # preformatted text in Markdown
            self._writer.add_text("config", indented, 0)

    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Export the numbers of a log line."""
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def samples(self, stage: str, step: int, folder: Path) -> None:
        """Export images, and videos as animated images."""
        from videocrafter.media.image_file import read_image

        pictures, videos = sample_files(folder)
        for path in pictures:
            self._writer.add_image(f"samples/{path.stem}", read_image(path), step, dataformats="HWC")
        for path in videos:
            self._show_video(f"samples/{path.stem}", path, step)

    def close(self) -> None:
        """Flush and close the event files."""
        try:
            self._writer.close()
        except Exception as error:  # noqa: BLE001  a full disk must not end a run whose checkpoint was written
            _log.warning("The TensorBoard file could not be completed (%s); log.jsonl is complete.", error)

    def _show_video(self, tag: str, path: Path, step: int) -> None:
        # The writer's `add_video` needs moviepy. TensorBoard displays a GIF as an animation, so write one directly.
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        from videocrafter.media.video_encoding import encode_gif
        from videocrafter.media.video_file import probe, read_frames

        frames = read_frames(path, max_frames=_MAX_FRAMES)
        gif = encode_gif(frames, min(probe(path).fps, _MAX_GIF_FPS))
        _, height, width, _ = frames.shape
        image = Summary.Image(encoded_image_string=gif, height=height, width=width, colorspace=3)
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._writer.file_writer.add_summary(summary, step)
