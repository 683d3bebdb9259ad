"""The benchmark that kills runs: when its kills come, what they hit, and what it would not overlook."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks import kills

BEGUN = "high (1/1): going on from there\n"
LAST = kills.Training(Path("run"), 4).stages[-1]


def killed_run(folder: Path, said: str = BEGUN) -> kills.Training:
    """A run whose latest process said something and was killed."""
    training = kills.Training(folder / "run", 4)
    training.folder.mkdir()
    (folder / "run.txt").write_text(said)
    return training


def test_nothing_is_not_equal_to_nothing(tmp_path: Path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, killed = (kills.Training(tmp_path / name, 4) for name in ("whole", "killed"))
    missing = {f"whole/{part} is not there" for part in ("final", "stages", "checkpoints", "log.jsonl")}
    assert missing <= set(kills.differences(whole, killed))
    (killed.folder / "bad_batches.jsonl").touch()
    assert "bad_batches.jsonl is there only once" in kills.differences(whole, killed)


@pytest.mark.parametrize(
    ("log", "expected"), [('{"step": 1}\n{"step": 2}\n', False), ('{"step": 1}\n{"st{"step": 2}\n', True)]
)
def test_half_a_line_in_a_log_is_seen(tmp_path: Path, log: str, expected: bool):
    training = killed_run(tmp_path)
    (training.folder / "log.jsonl").write_text(log)
    assert training.has_half_lines() == expected


def test_kills_are_aimed_at_what_is_rare():
    rng = random.Random(0)
    moments = [kills._moment(rng, number, 50, 100.0) for number in range(1, 52)]
    waited_for = [moment.writes for moment in moments if moment.kills]
    assert [waited_for.count(what) for what in (kills.STAGE, kills.CHECKPOINT, kills.FINAL)] == [8, 8, 1]
    assert waited_for[-1] == kills.FINAL
    assert [moment.kills for moment in moments] == [True] * 50 + [False]
    assert max(moment.seconds for moment in moments if moment.writes is None and moment.kills) > 80


def test_what_a_process_before_left_half_written_is_not_waited_for(tmp_path: Path):
    training = killed_run(tmp_path)
    half = training.folder / "checkpoints" / ".tmp-high-step-00000002"
    half.mkdir(parents=True)
    assert training.is_writing(kills.CHECKPOINT)
    os.utime(half, (0, 0))
    assert not training.is_writing(kills.CHECKPOINT)


def test_deleting_what_a_process_before_left_is_not_writing(tmp_path: Path):
    training = killed_run(tmp_path, said="loading\n")
    (training.folder / "checkpoints" / ".tmp-high-step-00000002").mkdir(parents=True)
    assert not training.is_writing(kills.CHECKPOINT)
    assert kills.find_phase(training) == "start-up"


PHASES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "start-up": ("loading\n", lambda run: None),
    "stepping": (BEGUN, lambda run: None),
    "saving": (BEGUN, lambda run: (run / "checkpoints" / ".tmp-high-step-00000002").mkdir(parents=True)),
    "publishing a stage": (BEGUN, lambda run: (run / "stages" / ".tmp-high").mkdir(parents=True)),
    "change of stage": (f"{BEGUN}Stage gate is finished: stages/gate\n", lambda run: None),
    "publishing the final folder": (BEGUN, lambda run: (run / ".tmp-final").mkdir()),
    "the end": (f"{BEGUN}Stage {LAST} is finished: stages/{LAST}\n", lambda run: (run / "final").mkdir()),
}


@pytest.mark.parametrize("phase", PHASES)
def test_what_a_kill_hit_is_told_from_what_is_left(tmp_path: Path, phase: str):
    said, leave = PHASES[phase]
    training = killed_run(tmp_path, said)
    leave(training.folder)
    assert phase in kills.PHASES
    assert kills.find_phase(training) == phase
