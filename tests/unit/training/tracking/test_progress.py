import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import pytest
from rich.console import Console

from videocrafter.training.tracking import progress as module
from videocrafter.training.tracking.progress import LineProgress, LiveProgress, Pace, open_progress

_log = logging.getLogger("videocrafter.training.loop")


class Clock:
    """A clock that is advanced by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    is_terminal = True

    def isatty(self) -> bool:
        return self.is_terminal


@contextmanager
def terminal() -> Iterator[Terminal]:
    text = Terminal()
    with redirect_stderr(text):
        yield text
        assert sys.stderr is text  # the view restored it


def live(text: io.StringIO, past: list[dict[str, object]] | None = None) -> LiveProgress:
    console = Console(file=text, force_terminal=True, width=80, height=40, color_system=None)
    return LiveProgress("low (1/2)", 100, 10, past or [], console)


def test_a_terminal_gets_the_view_and_all_else_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(term: str, *, is_terminal: bool = True, plain: bool = False) -> type:
        monkeypatch.setenv("TERM", term)
        with terminal() as text:
            text.is_terminal = is_terminal
            progress = open_progress("low", 9, 0, plain=plain)
            progress.close()
        return type(progress)

    assert kind("xterm") is LiveProgress
    assert kind("xterm", plain=True) is LineProgress
    assert kind("xterm", is_terminal=False) is LineProgress
    assert kind("dumb") is LineProgress


def test_lines_come_now_and_then(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = LineProgress("low (1/2)", 100, 10)
    values = {"loss_clips": 0.25, "loss": 0.5, "grad_norm": 2.0, "lr": 1e-3, "samples_per_s": 3.0}
    progress.line("low", 10, "train", values)
    progress.line("low", 10, "validation", {"loss": 9.0})
    for step in range(11, 51):
        clock.now += 1.0
        progress.advance(step, 8)
    first, second = caplog.messages
    assert first == "low (1/2): step 30 of 100, 8.0 samples/s, 1:10 left  loss 0.5  loss_clips 0.25  grad_norm 2"
    assert second.startswith("low (1/2): step 50 of 100, 8.0 samples/s, 0:50 left")


def test_the_time_left_follows_the_pace_of_late(clock: Clock) -> None:
    pace = Pace(0)
    assert pace.seconds_left(0, 100) is None
    for step in range(1, 11):  # slow: the first steps compile
        clock.now += 100.0
        pace.advance(step, 1)
    assert pace.seconds_left(10, 20) == pytest.approx(1000.0, rel=0.01)
    for step in range(11, 1011):
        clock.now += 1.0
        pace.advance(step, 1)
    assert pace.seconds_left(1010, 1110) == pytest.approx(100.0, rel=0.02)


def test_a_return_to_a_checkpoint_does_not_confuse_the_pace(clock: Clock) -> None:
    pace = Pace(50)
    for step in (51, 52, 40, 41):
        clock.now += 10.0
        pace.advance(step, 1)
    assert pace.seconds_left(41, 100) is None


def test_the_view_shows_what_it_hears() -> None:
    past = [{"stage": "low", "step": 5, "kind": "train", "loss": 4.0, "lr": 0.1}]
    with terminal() as text:
        progress = live(text, past)
        progress.advance(11, 8)
        progress.line("low", 11, "train", {"loss": 2.0, "lr": 0.01, "data_wait_share": 0.25})
        progress.line("low", 11, "validation", {"gauge": 7.0})
        progress.saved(11)
        progress.show("validating")
        assert progress._render()._status.activity == "validating"
        progress.close()
    last = text.getvalue().rsplit("low (1/2): ", 1)[1]
    assert last.startswith("stopped")
    for fact in ("step 11 of 100", "loss          2          █▁", "data wait     25 %", "step 11, 0:00 ago", "gauge"):
        assert fact in last


def test_a_finished_stage_says_so() -> None:
    with terminal() as text:
        progress = live(text)
        progress.advance(100, 8)
        progress.close()
    assert "low (1/2): finished" in text.getvalue()


def test_what_is_logged_appears_above_and_warnings_in_the_view_too() -> None:
    from videocrafter.cli.stderr_log import StderrHandler

    handler = StderrHandler()
    logging.getLogger("videocrafter").addHandler(handler)
    try:
        with terminal() as text:
            progress = live(text)
            _log.warning("low, step 12: gradient norm inf: skip")
            progress.close()
            _log.warning("after the view")
    finally:
        logging.getLogger("videocrafter").removeHandler(handler)
    above, view = text.getvalue().rsplit("low (1/2): stopped", 1)
    assert "low, step 12: gradient norm inf: skip\n" in above
    assert "low, step 12: gradient norm inf: skip" in view
    assert view.endswith("after the view\n")


def test_a_warning_that_nobody_else_would_show_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with terminal() as text:
        progress = live(text)
        _log.warning("trouble")
        assert "trouble\n" in text.getvalue()
        progress.close()


def test_a_terminal_that_is_gone_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise OSError("input/output error")

    with terminal() as text:
        progress = live(text)
        stop = progress._live.stop
        monkeypatch.setattr(progress._live, "stop", gone)
        progress.close()
        stop()
