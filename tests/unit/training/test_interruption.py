from __future__ import annotations

import signal

import pytest

from videocrafter.training import interruption
from videocrafter.training.interruption import StopRequest


def test_the_second_signal_ends_at_once() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_a_launcher_says_again_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now)
    with StopRequest(launched=True) as stop:
        signal.raise_signal(signal.SIGTERM)
        now = 104.0
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        now = 106.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
