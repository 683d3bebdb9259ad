"""Fill a clip cache with a command that is killed and resumed, and train a model from it."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_models import save_tiny_pipeline
from tests.warm_process import COMMAND_LINE, WarmProcess
from videocrafter.media.video_file import write_video
from videocrafter.training.tracking.log import read_log

pytestmark = pytest.mark.slow

# Kills the process at the eighth cut, after the first shard was written.
KILLED = """
import os, signal
from videocrafter.training.video.clip_cache import clip_cache as cache
original, kept = cache.ClipCache.keep, []
def keep(self, *arguments):
    kept.append(arguments)
    if len(kept) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    done = original(self, *arguments)
    if len(kept) == 5:
        self.close()
    return done
cache.ClipCache.keep = keep
"""
SETTINGS = {
    "num_steps": "5",
    "log_every": "1",
    "precision": "fp32",
    "validate_every": "5",
    "sample_every": "5",
    "checkpoint_every": "2",
    "optimizer.accumulate": "2",
    "task.data.image_share": "none",
    "task.data.num_workers": "1",
    "task.data.cutting.height": "16",
    "task.data.cutting.width": "16",
    "task.data.cutting.sampling.lengths": "4",
    "task.data.batch_size": "1",
    "optimizer.warmup_steps": "0",
    "task.data.bad_samples.max_bad_share": "1",
    "task.frozen_weights": "fp32",
    "task.cache.dtype": "fp32",
    "task.cache.variants": "2",
    "task.validation.num_clips": "1",
    "task.samples.num_inference_steps": "1",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starting model and some clips, one of them damaged."""
    root = tmp_path_factory.mktemp("cached")
    save_tiny_pipeline(root / "start", image=False)
    (root / "clips").mkdir()
    for number in range(5):
        frames = np.full((10, 16, 20, 3), 40 * number, np.uint8)
        frames[:, 4:9, number : number + 6, number % 3] = 255
        write_video(root / f"clips/{number}.mp4", frames, playback_fps=8)
        (root / f"clips/{number}.txt").write_text("a red car moving left" if number % 2 else "a cat")
    (root / "clips/3.mp4").write_bytes(b"nonsense")
    return root


def command(*arguments: str) -> list[str]:
    settings = [part for path, value in SETTINGS.items() for part in ("--set", f"stages.*.{path}={value}")]
    return [*arguments, "--data", "clips", "--init", "start", "--device", "cpu", *settings]


def run(folder: Path, *arguments: str, code: str = "", status: int = 0) -> str:
    """Run a command and return its standard error."""
    process = WarmProcess(code + COMMAND_LINE, *command(*arguments), cwd=folder)
    _, errors = process.communicate()
    assert process.returncode == status, errors
    return errors


def losses_and_weights(run: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    losses = [entry["loss"] for entry in read_log(run) if "loss" in entry]
    return losses, load_file(run / "final/unet/diffusion_pytorch_model.safetensors")


def assert_same(one: Path, other: Path) -> None:
    (losses, weights), (other_losses, other_weights) = losses_and_weights(one), losses_and_weights(other)
    assert losses == other_losses
    assert [name for name in weights if not torch.equal(weights[name], other_weights[name])] == []


@pytest.fixture(scope="module")
def uncached(folder: Path) -> Path:
    run(folder, "train", "t2v-256", "-o", "uncached")
    return folder / "uncached"


def test_a_killed_filling_resumes_and_training_then_needs_no_clip_files(folder: Path, uncached: Path) -> None:
    run(folder, "cache", "t2v-256", "--cache", "kept", "--num-workers", "1", code=KILLED, status=-9)
    assert len(list((folder / "kept").glob("*.safetensors"))) == 1
    told = run(folder, "cache", "t2v-256", "--cache", "kept", "--num-workers", "1")
    counts = re.search(r"(\d+) clips added, (\d+) already cached, (\d+) skipped", told)
    assert counts is not None, told
    added, found, left_out = map(int, counts.groups())
    assert added + found + left_out == 10
    assert found > 0, "cuts written before the kill are kept"
    contents = {clip: clip.read_bytes() for clip in (folder / "clips").glob("*.mp4")}
    try:
        for clip in contents:
            clip.write_bytes(b"nothing to see")
        run(folder, "train", "t2v-256", "--cache", "kept", "-o", "cached", "--set", "stages.*.task.cache.fill=never")
    finally:
        for clip, content in contents.items():
            clip.write_bytes(content)
    left_out_of = (folder / "cached/left_out.jsonl").read_text()
    assert left_out_of == (uncached / "left_out.jsonl").read_text()
    assert '"3.mp4"' in left_out_of
    assert_same(folder / "cached", uncached)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_two_processes_fill_one_cache(folder: Path) -> None:
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    sprites = ["--data", "sprites:?num_clips=5&num_frames=6&height=16&width=16"]
    arguments = command("cache", "t2v-256", "--cache", "shared", "--num-workers", "0")
    arguments[arguments.index("--data") : arguments.index("--data") + 2] = sprites
    started = [
        WarmProcess(COMMAND_LINE, *arguments, cwd=folder, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    told = [process.communicate(timeout=600)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert "10 clips added, 0 already cached, 0 skipped" in told[0]
    assert "clips added" not in told[1]
    assert len(list((folder / "shared").glob("*.safetensors"))) == 2
