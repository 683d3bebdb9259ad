"""The benchmark of killed runs: the moments and phases of its kills, and the differences that it finds."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks import kills

BEGUN = "Stage high (1/1): 0.49 M of 0.49 M parameters trainable, fp32 on cpu\n"
LAST = kills.Training(Path("run"), 4).stages[-1]


def killed_run(folder: Path, printed: str = BEGUN) -> kills.Training:
    """A run whose latest process printed something and was killed."""
    training = kills.Training(folder / "run", 4)
    training.folder.mkdir()
    (folder / "run.txt").write_text(printed)
    return training


def test_missing_parts_are_differences(tmp_path: Path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, killed = (kills.Training(tmp_path / name, 4) for name in ("whole", "killed"))
    missing = {f"whole/{part} is missing" for part in ("final", "stages", "checkpoints", "log.jsonl")}
    assert missing <= set(kills.differences(whole, killed))
    (killed.folder / "bad_batches.jsonl").touch()
    assert "bad_batches.jsonl exists in one run only" in kills.differences(whole, killed)


@pytest.mark.parametrize(
    ("log", "expected"), [('{"step": 1}\n{"step": 2}\n', False), ('{"step": 1}\n{"st{"step": 2}\n', True)]
)
def test_an_incomplete_line_in_a_log_is_found(tmp_path: Path, log: str, expected: bool):
    training = killed_run(tmp_path)
    (training.folder / "log.jsonl").write_text(log)
    assert training.has_half_lines() == expected


def test_some_kills_wait_for_rare_phases():
    rng = random.Random(0)
    moments = [kills._moment(rng, number, 50, 100.0) for number in range(1, 52)]
    waited_for = [moment.writes for moment in moments if moment.kills]
    assert [waited_for.count(what) for what in (kills.STAGE, kills.CHECKPOINT, kills.FINAL)] == [8, 8, 1]
    assert waited_for[-1] == kills.FINAL
    assert [moment.kills for moment in moments] == [True] * 50 + [False]
    assert max(moment.seconds for moment in moments if moment.writes is None and moment.kills) > 80


def test_leftovers_of_an_earlier_process_do_not_count_as_writing(tmp_path: Path):
    training = killed_run(tmp_path)
    half = training.folder / "checkpoints" / ".0123456789abcdef.part"
    half.mkdir(parents=True)
    assert training.is_writing(kills.CHECKPOINT)
    os.utime(half, (0, 0))
    assert not training.is_writing(kills.CHECKPOINT)


def test_deleting_leftovers_does_not_count_as_writing(tmp_path: Path):
    training = killed_run(tmp_path, printed="loading\n")
    (training.folder / "checkpoints" / ".0123456789abcdef.part").mkdir(parents=True)
    assert not training.is_writing(kills.CHECKPOINT)
    assert kills.find_phase(training) == "start-up"


PHASES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "start-up": ("loading\n", lambda run: None),
    "stepping": (BEGUN, lambda run: None),
    "saving": (BEGUN, lambda run: (run / "checkpoints" / ".0123456789abcdef.part").mkdir(parents=True)),
    "publishing a stage": (BEGUN, lambda run: (run / "stages" / ".0123456789abcdef.part").mkdir(parents=True)),
    "change of stage": (f"{BEGUN}Stage gate finished: stages/gate\n", lambda run: None),
    "publishing the final folder": (BEGUN, lambda run: (run / ".0123456789abcdef.part").mkdir()),
    "the end": (f"{BEGUN}Stage {LAST} finished: stages/{LAST}\n", lambda run: (run / "final").mkdir()),
}


@pytest.mark.parametrize("phase", PHASES)
def test_the_phase_of_a_kill_is_found_from_output_and_files(tmp_path: Path, phase: str):
    printed, leave = PHASES[phase]
    training = killed_run(tmp_path, printed)
    leave(training.folder)
    assert phase in kills.PHASES
    assert kills.find_phase(training) == phase
