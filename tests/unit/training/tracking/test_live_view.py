import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from videocrafter.training.tracking.live_view import StageView, sparkline
from videocrafter.training.tracking.stage_status import StageStatus

NAMES = ("loss", "gauge_subject", "gauge_motion", "gauge_scene", "gauge_left_right", "gauge_up_down", "gauge_image")
ADVICE = "high, step 5500: training spends 34 % of its time waiting for data. " + "Use more data workers. " * 6


def full_status() -> StageStatus:
    status = StageStatus(title="high (3/5)", num_steps=20000)
    for step in range(50, 6000, 50):
        loss = 3 / math.sqrt(step)
        values = {"loss_clips": loss, "loss_images": loss / 2, "loss": loss, "grad_norm": 1.0}
        rates = {"samples_per_s": 123.4, "data_wait_share": 0.034, "peak_memory_gib": 3.14159}
        status.add(step, "train", {**values, "lr": 3e-4, "skipped": 2, **rates})
    status.add(5000, "validation", dict.fromkeys(NAMES, 2.0))
    status.add(5500, "validation", {**dict.fromkeys(NAMES, 2.5), "loss": 1.5})
    status.saved, status.seconds_left = (5600, 9870.0), 7384.0
    status.samples = Path("outputs/t2v/samples/high-step-00005000")
    status.warnings.extend([(9500.0, "high, step 5123: gradient norm inf: skip"), (9600.0, ADVICE)])
    return status


def seen(status: StageStatus, width: int = 80, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    console = Console(
        file=io.TextIOWrapper(raw, encoding=encoding), width=width, force_terminal=True, color_system=None
    )
    console.print(StageView(status, now=10_000.0))
    console.file.flush()
    return raw.getvalue().decode(encoding).splitlines()


def test_everything_that_one_wants_to_know_is_there() -> None:
    lines = seen(full_status())
    text = "\n".join(lines)
    assert lines[0] == "high (3/5): training"
    assert "29 %, step 5950 of 20000, 2:03:04 left" in lines[1]
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["loss", "0.03889"],
        ["loss_clips", "0.03889"],
        ["loss_images", "0.01945"],
        ["grad_norm", "1"],
    ]
    for fact in ("samples/s     123", "lr            0.0003", "data wait     3 %", "memory        3.14 GiB peak"):
        assert fact in text
    assert "checkpoint    step 5600, 2:10 ago" in text
    assert "skipped       2 steps" in text
    assert "validation, step 5500, change since step 5000" in text
    words = " ".join(text.split())
    assert "gauge_left_right 2.5 +0.5" in words
    assert "loss 1.5 -0.5" in words
    assert "samples in outputs/t2v/samples/high-step-00005000" in text
    assert "high, step 5123: gradient norm inf: skip" in text


@pytest.mark.parametrize("width", [40, 50, 80, 120, 200])
def test_it_fits_the_terminal_and_cuts_nothing_but_long_warnings(width: int) -> None:
    lines = seen(full_status(), width)
    assert max(map(cell_len, lines)) <= width
    assert "…" not in "".join(lines)
    assert len(lines) <= (24 if width >= 80 else 40)


def test_the_sparkline_falls_with_the_loss() -> None:
    line = next(line for line in seen(full_status()) if line.startswith("loss "))
    bars = line.split()[-1]
    assert len(bars) == 50
    assert (bars[0], bars[-1]) == ("█", "▁")


def test_a_stage_that_has_just_begun_has_little_to_show() -> None:
    lines = seen(StageStatus(title="low (1/3)", num_steps=100))
    assert "0 %, step 0 of 100" in lines[1]
    assert "checkpoint    none yet" in lines[2]
    assert len([line for line in lines if line.strip()]) == 3


@pytest.mark.parametrize(
    ("step", "num_steps", "share"), [(999, 1000, "99 %"), (1000, 1000, "100 %"), (5, 0, "100 %")]
)
def test_all_is_done_at_the_last_step_alone(step: int, num_steps: int, share: str) -> None:
    assert f" {share}, step {step}" in seen(StageStatus(title="low", num_steps=num_steps, step=step))[1]


def test_a_terminal_without_such_signs_gets_none() -> None:
    "\n".join(seen(full_status(), encoding="ascii")).encode("ascii")


def test_falling_losses_are_green_and_other_changes_have_no_colour() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(StageView(full_status(), now=10_000.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[32m-0.5\x1b[0m" in text
    assert "\x1b[32m+0.5" not in text
    assert "\x1b[31m+0.5" not in text


@given(st.lists(st.floats(), max_size=30))
def test_a_sparkline_has_a_sign_for_each_value(values: list[float]) -> None:
    bars = sparkline(values)
    assert len(bars) == len(values)
    assert [bar == " " for bar in bars] == [not math.isfinite(value) for value in values]


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, 1.0]) == "▄▄"
    assert sparkline([math.nan, 1.0, 3.0]) == " ▁█"
    assert sparkline([]) == ""
