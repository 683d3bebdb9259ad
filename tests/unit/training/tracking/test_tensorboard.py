import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.training.tracking.tensorboard import TensorBoard

pytest.importorskip("tensorboard")


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


def test_numbers_pictures_and_moving_videos_are_shown(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    rng = np.random.default_rng(0)
    write_image(samples / "sheet.png", rng.integers(0, 255, (20, 30, 3), dtype=np.uint8))
    frames = np.repeat(np.linspace(0, 255, 6).astype(np.uint8)[:, None, None, None], 3, axis=3)
    write_video(samples / "clip.mp4", np.broadcast_to(frames, (6, 32, 48, 3)).copy(), playback_fps=8)
    board = TensorBoard(tmp_path / "board", 0, '{\n  "name": "toy"\n}')
    board.line("low", 5, "train", {"loss": 0.5, "precision": "fp32", "none": None})
    board.line("low", 6, "validation", {"loss": 0.25})
    board.samples("low", 6, samples)
    board.close()
    found = events(tmp_path / "board")
    assert found.Tags()["scalars"] == ["train/loss", "validation/loss"]
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [(5, 0.5)]
    (sheet,) = found.Images("samples/sheet")
    assert (sheet.step, sheet.height, sheet.width) == (6, 20, 30)
    (clip,) = found.Images("samples/clip")
    shown = Image.open(io.BytesIO(clip.encoded_image_string))
    assert (shown.format, shown.size, shown.n_frames) == ("GIF", (48, 32), 6)
    assert '"name": "toy"' in found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_a_run_that_goes_on_hides_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, 0, "{}")
    for step in (5, 10):
        board.line("low", step, "train", {"loss": float(step)})
    board.close()
    board = TensorBoard(tmp_path, 6, "{}")
    board.line("low", 10, "train", {"loss": 0.5})
    board.close()
    assert [(event.step, event.value) for event in events(tmp_path).Scalars("train/loss")] == [(5, 5.0), (10, 0.5)]


def test_a_full_disk_at_the_end_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    board = TensorBoard(tmp_path, 0, "{}")

    def full() -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(board._writer, "close", full)
    board.close()
    assert "could not be completed (no space left on device)" in caplog.messages[0]
