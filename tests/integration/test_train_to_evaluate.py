"""Train on the command line, kill and resume the run, generate, reproduce a video, and evaluate."""

import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_parts import save_parts
from tests.warm_process import COMMAND_LINE, WarmProcess
from videocrafter.media.video_file import probe, read_frames, read_metadata
from videocrafter.training.miniature.autoencoder import AutoencoderTaskConfig
from videocrafter.training.miniature.judge import JudgeTask, JudgeTaskConfig
from videocrafter.training.miniature.towers import ContrastiveTaskConfig
from videocrafter.training.recipes.miniature import smoke
from videocrafter.training.tracking.log import read_log

pytestmark = pytest.mark.slow

PATIENCE_S = 900
STAGES = [stage.name for stage in smoke().stages]


def start(*arguments: object, code: str = COMMAND_LINE) -> WarmProcess:
    return WarmProcess(code, *arguments)


def finish(process: WarmProcess) -> tuple[str, str]:
    """Wait for a process to succeed and return its output."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out, err


@dataclass(frozen=True)
class Runs:
    """Folders of an uninterrupted run and of one that was killed and resumed, and what the latter printed."""

    whole: Path
    killed: Path
    status_of_killed: int | None
    final_of_killed_was_there: bool
    printed_on_resume: str


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Replacements for the shipped networks that `smoke` uses, with latents and text of the same sizes."""
    towers = ContrastiveTaskConfig(text_layers=1, image_layers=1)
    return save_parts(tmp_path_factory.mktemp("parts"), AutoencoderTaskConfig(num_validation=4), towers)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Runs:
    root = tmp_path_factory.mktemp("runs")
    settings = [f"stages.*.task.autoencoder={parts}", f"stages.*.task.towers={parts}", "stages.*.precision=fp32"]
    # Validation and samples must not affect training; skipping most of them saves time.
    settings += [f"stages.{stage}.{what}_every=0" for stage in STAGES[1:] for what in ("validate", "sample")]
    whole = start(*train(root / "whole", settings))
    settings += [f"stages.{STAGES[0]}.{what}_every=0" for what in ("validate", "sample")]
    command = train(root / "killed", settings)
    killed = start(*command)
    wait_for(root / "killed" / "checkpoints" / f"{STAGES[1]}-step-00000002", killed)
    killed.kill()
    killed.communicate()
    was_there = (root / "killed" / "final").exists()
    _, printed = finish(start(*command))
    finish(whole)
    return Runs(
        whole=root / "whole",
        killed=root / "killed",
        status_of_killed=killed.returncode,
        final_of_killed_was_there=was_there,
        printed_on_resume=printed,
    )


def train(output: Path, settings: list[str]) -> list[object]:
    return ["train", "smoke", "--output", output, *(word for setting in settings for word in ("--set", setting))]


def wait_for(path: Path, process: WarmProcess) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@dataclass(frozen=True)
class Exam:
    """The exam's process, which runs in parallel with the other tests, and the folder of its report."""

    process: WarmProcess
    output: Path


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Exam:
    root = tmp_path_factory.mktemp("exam")
    # A judge with random weights, because only the format of the report is tested.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = JudgeTask(JudgeTaskConfig(widths=(8, 8, 8, 8)), None, 0, 0, torch.device("cpu"))
    (root / "judge").mkdir()
    judge.save_pipeline(root / "judge")
    code = f"""
import pathlib
from videocrafter.evaluation.exam import judging
judging.SHIPPED_JUDGE = pathlib.Path({str(root / "judge")!r})
{COMMAND_LINE}"""
    arguments = ["evaluate", runs.whole / "final", "--quick", "--prompts", 4, "--output", root / "report"]
    return Exam(start(*arguments, code=code), root / "report")


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_a_killed_and_resumed_run_ends_with_the_same_bytes(runs: Runs) -> None:
    assert runs.status_of_killed == -signal.SIGKILL
    assert not runs.final_of_killed_was_there
    assert "resumed from" in runs.printed_on_resume
    for folder in ("final", *(f"stages/{stage}" for stage in STAGES)):
        found = weights(runs.whole / folder)
        assert {name.partition("/")[0] for name in found} == {"unet", "vae", "text_encoder"}
        assert found == weights(runs.killed / folder), folder


def test_a_run_leaves_its_log_and_sample_sheets(runs: Runs) -> None:
    log = read_log(runs.whole)
    for found in (log, read_log(runs.killed)):
        steps = [(entry["stage"], entry["step"]) for entry in found if entry["kind"] == "train"]
        assert steps == [(stage, step) for stage in STAGES for step in (1, 2, 3, 4)]
    (gauges,) = [entry for entry in log if entry["kind"] == "validation"]
    assert (gauges["stage"], gauges["step"]) == (STAGES[0], 4)
    assert "gauge_left_right" in gauges
    sheets = [path.relative_to(runs.whole / "samples") for path in (runs.whole / "samples").rglob("*.png")]
    assert sheets == [Path(f"{STAGES[0]}-step-00000004/samples.png")]


def test_its_final_folder_generates_and_a_video_is_reproducible(runs: Runs, exam: Exam, tmp_path: Path) -> None:
    video, again = tmp_path / "rocket.mp4", tmp_path / "again.mp4"
    final = runs.killed / "final"
    out, _ = finish(start("generate", "a rocket flying up", "--model", final, "--seed", 5, "-o", video))
    assert str(video) in out
    info = probe(video)
    assert (info.num_frames, info.height, info.width) == (8, 64, 64)
    finish(start("generate", "--from", video, "-o", again))
    assert np.array_equal(read_frames(video), read_frames(again))
    first, second = read_metadata(video), read_metadata(again)
    assert first == second
    assert first["prompt"] == "a rocket flying up"
    assert first["seed"] == 5


def test_its_final_folder_is_examined(exam: Exam) -> None:
    out, _ = finish(exam.process)
    assert "all three" in out
    report = json.loads((exam.output / "report.json").read_text())
    accuracies = [
        f"{part}{what}_accuracy" for part in ("", "real_") for what in ("subject", "motion", "scene", "all")
    ]
    assert all(0 <= report[name] <= 1 for name in accuracies)
    assert all(
        name in report for name in ("speed_correlation", "variety", "per", "confusions", "settings", "versions")
    )
    assert report["settings"]["num_prompts"] == 4
    assert report["num_videos"] == 4 + 24 + 4
    answers = [json.loads(line) for line in (exam.output / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == report["num_videos"]
    assert (exam.output / "report.md").is_file()
    assert list(exam.output.glob("*.png"))
