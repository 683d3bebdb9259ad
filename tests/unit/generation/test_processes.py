"""Runs on several processes write the files of one process."""

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import call
from tests.warm_process import COMMAND_LINE, WarmProcess
from videocrafter.generation.errors import GenerationError
from videocrafter.generation.processes import ProcessShare, join
from videocrafter.generation.request import GenerateOptions, PromptRow, check_options

PROMPTS = ("a red car", "a cat moving left", "a rocket")


def launch(*arguments: object) -> list[str]:
    """Run `videocrafter` in two processes, as torchrun does; return what they print."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    processes = [WarmProcess(COMMAND_LINE, *arguments, env={**shared, **rank}) for rank in ranks]
    printed = []
    try:
        for process in processes:
            out, errors = process.communicate()
            assert process.returncode == 0, errors
            printed.append(out)
    finally:
        for process in processes:
            process.kill()
    return printed


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).as_posix(): np.asarray(Image.open(path), int)
        for path in sorted(folder.rglob("*.png"))
    }


def test_videos_are_shared_and_each_is_the_one_of_a_single_process(t2v_folder: Path, tmp_path: Path) -> None:
    """Also without a seed: all processes then use the one that the first drew."""
    settings = [*PROMPTS, "--model", t2v_folder, "--steps", 2, "--frames", 2, "--device", "cpu"]
    first, second = launch("generate", *settings, "-o", tmp_path / "shared" / "v")
    assert [name in first for name in ("v-000", "v-001", "v-002")] == [True, False, True]
    assert [name in second for name in ("v-000", "v-001", "v-002")] == [False, True, False]
    recorded = tmp_path / "shared" / "v-000.json"
    again = call(["generate", *settings, "--seed", _seed(recorded), "-o", tmp_path / "alone" / "v"])
    assert again.exit_code == 0, again.output
    expected, found = pictures(tmp_path / "alone"), pictures(tmp_path / "shared")
    assert expected.keys() == found.keys()
    assert len(found) == 2 * len(PROMPTS)
    for name, picture in expected.items():
        assert np.array_equal(found[name], picture), name


def _seed(recording: Path) -> int:
    import json

    return json.loads(recording.read_text(encoding="utf-8"))["seed"]


@pytest.mark.parametrize("split", ["branches", "frames"])
def test_processes_that_share_a_video_write_it_once(t2v_folder: Path, tmp_path: Path, split: str) -> None:
    settings = ["a red car", "--model", t2v_folder, "--steps", 2, "--seed", 1, "--frames", 4, "--device", "cpu"]
    alone = call(["generate", *settings, "-o", tmp_path / "alone" / "v"])
    assert alone.exit_code == 0, alone.output
    first, second = launch("generate", *settings, "--split", split, "-o", tmp_path / "shared" / "v")
    assert "v: 4 frames" in first
    assert second == ""
    expected, found = pictures(tmp_path / "alone"), pictures(tmp_path / "shared")
    assert expected.keys() == found.keys()
    assert max(np.abs(found[name] - picture).max() for name, picture in expected.items()) <= 1


def test_a_process_without_a_launcher_makes_and_writes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    options = GenerateOptions(output=Path("v.mp4"))
    same, share = join(options, lambda: 5)
    assert same is options
    assert [share.makes(batch) for batch in range(3)] == [True] * 3
    assert share.writes


def test_a_video_is_not_split_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(GenerationError, match="split frames has no effect on one device"):
        join(GenerateOptions(output=Path("v.mp4"), split="frames"), lambda: 5)


def test_shares_are_disjoint_and_complete() -> None:
    shares = [ProcessShare(index=index, count=3) for index in range(3)]
    assert all(sum(share.makes(batch) for share in shares) == 1 for batch in range(10))
    together = [ProcessShare(index=index, count=3, split="frames") for index in range(3)]
    assert all(share.makes(4) for share in together)
    assert [share.writes for share in together] == [True, False, False]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"devices": 0}, "devices must be at least 1"),
        ({"split": "layers"}, "split must be videos, branches or frames, but is 'layers'"),
        ({"devices": 2, "contact_sheet": Path("s.png")}, "contact_sheet needs all videos in one process"),
        ({"devices": 2, "device": "cuda:1"}, "device cuda:1 is one device, but `devices` is 2"),
        ({"devices": 2, "low_memory": True}, "low_memory plans for one device"),
    ],
)
def test_what_cannot_be_shared_is_named(wrong: dict[str, object], message: str) -> None:
    options = GenerateOptions(output=Path("v.mp4"), rows=(PromptRow(prompt="a"),), **wrong)
    with pytest.raises(ValueError, match=message):
        check_options(options)
