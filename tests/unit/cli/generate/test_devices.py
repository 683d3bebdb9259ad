"""`--devices` starts the same command with torchrun, once."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.cli.conftest import Run
from videocrafter.cli.generate.devices import launch_command


def test_several_devices_start_the_same_command_with_torchrun(
    make: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        started.append(command)
        return SimpleNamespace(returncode=3)

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["videocrafter", "generate", "a cat", "--devices", "2"])
    done = make("a cat", "-o", tmp_path / "v.mp4", "--devices", 2)
    assert done.exit_code == 3
    (command,) = started
    assert command == launch_command(2, ["generate", "a cat", "--devices", "2"])
    assert command[1:3] == ["-m", "torch.distributed.run"]
    assert command[-4:] == ["generate", "a cat", "--devices", "2"]


def test_wrong_options_are_reported_before_anything_starts(
    make: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started"))
    done = make("a cat", "-o", tmp_path / "v.mp4", "--devices", 2, "--contact-sheet", tmp_path / "s.png")
    assert done.exit_code == 2
    assert "--contact-sheet" in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--frames", 4], "--frames is 4; to split frames over 3 devices"),
        (["--frames", 16], "--window is 4; to split frames over 3 devices"),
        (
            ["--frames", 8, "--window", 6, "--height", 32, "--width", 32],
            "positions, which 3 devices cannot share equally",
        ),
    ],
)
def test_frames_that_cannot_be_shared_are_reported_before_anything_starts(
    make: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[object], message: str
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started"))
    done = make("a cat", "-o", tmp_path / "v.mp4", "--devices", 3, "--split", "frames", *settings)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
