"""Without a terminal, progress is logged at intervals."""

from __future__ import annotations

import logging

import pytest

from videocrafter.training.video.clip_cache import filling_progress as progress_module
from videocrafter.training.video.clip_cache.filling_progress import FillingProgress


def test_it_says_how_far_it_is_but_not_too_often(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "videocrafter")
    progress = FillingProgress("cache of clips", 100, shown=True)
    for _ in range(50):
        now[0] += 1
        progress.advance(4)
    progress.close()
    assert [record.getMessage() for record in caplog.records] == [
        "cache of clips: 20 of 100, 4.0 cuts/s, 0:01:20 left",
        "cache of clips: 40 of 100, 4.0 cuts/s, 0:01:00 left",
    ]


def test_of_several_processes_one_speaks(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_SECONDS_BETWEEN_LINES", 0.0)
    caplog.set_level(logging.INFO, "videocrafter")
    progress = FillingProgress("cache of clips", 2, shown=False)
    progress.advance(1)
    progress.close()
    assert caplog.records == []


def test_in_a_terminal_a_bar_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    progress = FillingProgress("cache of clips", 2, shown=True)
    assert progress._bar is not None
    progress.advance(3)
    assert progress._bar.tasks[0].completed == 1
    assert "cuts/s" in progress._bar.tasks[0].fields["rate"]
    progress.close()
