from pathlib import Path

import pytest

from videocrafter.training.tracking.data_wait import DataWaitWarning


def hear(shares: list[object]) -> None:
    warning = DataWaitWarning()
    for step, share in enumerate(shares):
        warning.line("low", step, "train", {"loss": 1.0} if share is None else {"data_wait_share": share})
        warning.line("low", step, "validation", {"loss": 1.0})
    warning.samples("low", 9, Path())


@pytest.mark.parametrize(
    "shares",
    [
        [0.9, 0.5, 0.5, 0.5, 0.5],  # the first line does not count
        [0.0, 0.5, 0.5, 0.1, 0.5, 0.5, 0.5, 0.5],
        [0.2] * 20,
        [None] * 20,
        ["much"] * 20,
        [float("nan")] * 20,
    ],
)
def test_what_is_no_reason_to_warn(shares: list[object], caplog: pytest.LogCaptureFixture) -> None:
    hear(shares)
    assert caplog.messages == []


def test_long_waits_are_said_once_with_what_helps(caplog: pytest.LogCaptureFixture) -> None:
    hear([0.0, 0.1, *[0.25, 0.35] * 20])
    (message,) = caplog.messages
    assert message.startswith("low, step 6: training spends 29 % of its time waiting for data.")
    assert "--set stages.low.task.data.num_workers=N" in message
