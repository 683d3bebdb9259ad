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
