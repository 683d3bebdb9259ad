"""`videocrafter plan generate` and `videocrafter generate --low-memory`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.cli.conftest import Run


def test_one_command_says_what_fits(cli: Run, t2v_folder: Path) -> None:
    done = cli("plan", "generate", t2v_folder, "--device", "8GB")
    assert done.exit_code == 0, done.output
    assert "8.0 GiB, 7.0 GiB usable" in done.stdout
    assert "Fastest that fits: videocrafter generate" in done.stdout
    assert "--low-memory" not in done.stdout


def test_a_device_that_is_too_small_gets_smaller_sizes(cli: Run, t2v_folder: Path) -> None:
    options = ["--height", 4096, "--width", 4096, "--device", "cpu:0.77GB"]
    done = cli("plan", "generate", t2v_folder, *options)
    assert done.exit_code == 0, done.output
    assert "no  " in done.stdout
    assert "Nothing fits at this size." in done.stdout
    assert "--height" in done.stdout
    assert done.stdout.rstrip().endswith("--low-memory")


def test_json_has_every_plan(cli: Run, t2v_folder: Path) -> None:
    done = cli("plan", "generate", t2v_folder, "--device", "cpu:4GB", "--steps", 2, "--frames", 4, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["workload"]["num_frames"] == 4
    needs = [plan["bytes"] for plan in found["plans"]]
    assert needs == sorted(needs, reverse=True)
    assert found["plans"][0]["fits"]


def test_the_printed_command_is_the_planned_one(cli: Run, t2v_folder: Path, i2v_folder: Path) -> None:
    given = ["--frames", 4, "--height", 64, "--width", 64, "--steps", 3, "--guidance", 5, "--batch-size", 2]
    done = cli("plan", "generate", t2v_folder, "--device", "8GB", *given)
    assert done.exit_code == 0, done.output
    command = done.stdout.splitlines()[-1]
    for option in ("--frames 4", "--height 64", "--width 64", "--steps 3", "--guidance 5.0", "--batch-size 2"):
        assert option in command
    assert "--num-videos 2" in command
    assert "--image" not in command
    of_image = cli("plan", "generate", i2v_folder, "--device", "8GB")
    assert "--image IMAGE" in of_image.stdout


def test_a_smaller_size_replaces_the_given_one(cli: Run, t2v_folder: Path) -> None:
    options = ["--height", 4096, "--width", 4096, "--steps", 3, "--device", "cpu:0.77GB"]
    command = cli("plan", "generate", t2v_folder, *options).stdout.splitlines()[-1]
    assert "--steps 3" in command
    assert "--height 4096" not in command
    assert command.count("--height") == 1


@pytest.mark.parametrize(("device", "peak"), [("cpu:4GB", 0.25), ("8GB", 312)])
def test_utilisation_is_a_share_of_the_assumed_peak(cli: Run, t2v_folder: Path, device: str, peak: float) -> None:
    done = cli("plan", "generate", t2v_folder, "--device", device, "--utilisation", 0.8)
    assert f"times at {0.8 * peak:.3g} TFLOP/s" in done.stdout


@pytest.mark.parametrize(("too_small", "enough", "reserve"), [("1GB", "1.1GB", 1), ("cpu:0.5GB", "cpu:0.6GB", 0.5)])
def test_a_device_needs_more_than_the_reserve_of_generation(
    cli: Run, t2v_folder: Path, too_small: str, enough: str, reserve: float
) -> None:
    refused = cli("plan", "generate", t2v_folder, "--device", too_small)
    assert refused.exit_code == 2
    assert f"more than the {reserve:g} GB" in refused.stderr
    assert cli("plan", "generate", t2v_folder, "--device", enough).exit_code == 0


@pytest.mark.parametrize("wrong", [["--device", "many"], ["--utilisation", 2], ["--frames", 0], ["--dtype", "int3"]])
def test_wrong_options_are_named(cli: Run, t2v_folder: Path, wrong: list[object]) -> None:
    done = cli("plan", "generate", t2v_folder, *wrong)
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_low_memory_prints_its_plan_and_makes_the_same_video(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from videocrafter.generation import low_memory

    plain = make("a cat", "-o", tmp_path / "plain", "--seed", 1, "--steps", 1, "--frames", 2)
    assert plain.exit_code == 0, plain.output
    monkeypatch.setattr(low_memory, "available_memory", lambda device: None)
    saving = make("a cat", "-o", tmp_path / "low", "--seed", 1, "--steps", 1, "--frames", 2, "--low-memory")
    assert saving.exit_code == 0, saving.output
    assert "low memory: decode 1 frame at once" in saving.stderr
    assert "offload all networks" in saving.stderr
    frames = sorted(path.name for path in (tmp_path / "plain").glob("*.png"))
    assert frames
    for name in frames:
        plain_frame, low_frame = (np.asarray(Image.open(tmp_path / which / name), int) for which in ("plain", "low"))
        assert np.abs(plain_frame - low_frame).max() <= 1
