import signal

import pytest
import typer

from videocrafter.cli.interruption import interruption_held_back, reporting_interruption


def test_an_interruption_that_is_held_back_arrives_at_the_end_of_the_block() -> None:
    done = []

    def write() -> None:
        with reporting_interruption(), interruption_held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("written")

    with pytest.raises(typer.Exit):
        write()
    assert done == ["written"]


def test_without_an_interruption_the_handler_is_the_same_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruption_held_back():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
