import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.training.tracking.stage_status import (
    StageStatus,
    format_age,
    format_duration,
    newest_checkpoint,
    status_of_run,
)


def write_log(folder: Path, *lines: dict[str, Any]) -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def train_line(step: int, seconds: float, **values: float) -> dict[str, Any]:
    return {"stage": "low", "step": step, "kind": "train", "loss": 1 / step, **values, "seconds": seconds}


def test_measurements_are_kept_and_counters_are_not() -> None:
    status = StageStatus(title="low", num_steps=10)
    for step in (5, 10):
        status.add(step, "train", {"loss": 1 / step, "lr": 1e-3, "samples": 8, "note": "x", "skipped": 1})
    assert status.step == 10
    assert {name: list(values) for name, values in status.history.items()} == {"loss": [0.2, 0.1]}
    assert status.numbers == {"loss": 0.1, "lr": 1e-3, "samples": 8, "skipped": 1}


def test_the_last_two_validations_are_kept() -> None:
    status = StageStatus(title="low", num_steps=10)
    for step in (1, 2, 3):
        status.add(step, "validation", {"loss": float(step)})
    assert status.validation == [(2, {"loss": 2.0}), (3, {"loss": 3.0})]
    assert status.step == 0


def test_a_snapshot_stays_as_it_is() -> None:
    status = StageStatus(title="low", num_steps=10)
    status.add(1, "train", {"loss": 1.0})
    before = status.snapshot()
    status.add(2, "train", {"loss": 2.0, "more": 1.0})
    status.add(2, "validation", {"loss": 2.0})
    status.warnings.append((0.0, "late"))
    assert (before.step, list(before.history["loss"]), before.validation, list(before.warnings)) == (1, [1.0], [], [])


def test_a_run_is_seen_from_outside(tmp_path: Path) -> None:
    write_log(
        tmp_path,
        {"stage": "before", "step": 7, "kind": "train", "loss": 9.0, "seconds": 70.0},
        {"stage": "low", "step": 0, "kind": "precision", "precision": "fp32"},
        train_line(10, 20.0),
        train_line(20, 40.0, skipped=2),
        {"stage": "low", "step": 20, "kind": "validation", "loss": 0.5},
    )
    for step in (10, 20):
        (tmp_path / f"checkpoints/low-step-{step:08d}").mkdir(parents=True)
        (tmp_path / f"samples/low-step-{step:08d}").mkdir(parents=True)
    (tmp_path / "checkpoints/low-step-newest").mkdir()
    status = status_of_run(tmp_path, "mine", "low", 50, finished=False)
    assert (status.step, status.num_steps, status.seconds_left) == (20, 50, 60.0)
    assert list(status.history["loss"]) == [0.1, 0.05]
    assert status.numbers["skipped"] == 2
    assert status.validation == [(20, {"loss": 0.5})]
    assert status.saved is not None
    assert status.saved[0] == 20
    assert status.samples == tmp_path / "samples/low-step-00000020"
    assert status.activity.startswith("last log line ")
    assert status_of_run(tmp_path, "mine", "low", 50, finished=True).activity == "finished"


def test_a_run_of_an_older_version_or_without_a_log_has_less_to_show(tmp_path: Path) -> None:
    status = status_of_run(tmp_path, "mine", "low", 50, finished=False)
    assert (status.step, status.seconds_left, status.saved, status.samples) == (0, None, None, None)
    write_log(tmp_path, *({"stage": "low", "step": step, "kind": "train", "loss": 0.5} for step in (1, 2)))
    assert status_of_run(tmp_path, "mine", "low", 50, finished=False).seconds_left is None


values = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3) | st.lists(st.integers())


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "stage": st.just("low"),
                "step": st.integers(0, 10**20),
                "kind": st.sampled_from(["train", "validation"]),
            },
            optional={"loss": values, "seconds": values, "samples": values, "skipped": values, "lr": values},
        ),
        max_size=6,
    )
)
def test_no_log_is_too_odd_to_look_at(tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]]) -> None:
    from rich.console import Console

    from videocrafter.training.tracking.live_view import StageView

    folder = tmp_path_factory.mktemp("run")
    write_log(folder, *lines)
    status = status_of_run(folder, "mine", "low", 50, finished=False)
    with Console(file=(folder / "seen").open("w", encoding="utf-8"), width=80).file as file:
        Console(file=file, width=80).print(StageView(status))
    assert "mine" in (folder / "seen").read_text(encoding="utf-8")


def test_a_checkpoint_that_is_half_written_does_not_count(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "nowhere", "low") is None
    for name in ("low-step-00000004", ".tmp-low-step-00000008", "lower-step-00000009", "low-best.json"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "low-step-00000004", (1000, 1000))
    assert newest_checkpoint(tmp_path, "low") == (4, 1000.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (3723, "1:02:03"), (86400, "24:00:00"), (2 * 86400 + 3600, "2 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_age_of_a_file(tmp_path: Path) -> None:
    assert format_age(tmp_path / "missing") == "?"
    (tmp_path / "there").touch()
    assert format_age(tmp_path / "there").startswith("0:0")
