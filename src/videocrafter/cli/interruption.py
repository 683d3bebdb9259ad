"""Ctrl-C: one line that says what was finished, and exit status 130; a second Ctrl-C ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any, NoReturn

import typer

INTERRUPTED_STATUS = 128 + signal.SIGINT


@contextmanager
def reporting_interruption(report: Callable[[], str] = str) -> Iterator[None]:
    """Turn Ctrl-C into a line on standard error and exit status 130.

    Args:
        report: returns a sentence about what was finished and what was not.
    """
    is_main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGINT, _interrupt) if is_main else None
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. {report()}".rstrip(), err=True)
        raise typer.Exit(INTERRUPTED_STATUS) from None
    finally:
        # After an interruption the process is about to end, and another Ctrl-C still ends it at once.
        if is_main and signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, previous)


@contextmanager
def interruption_held_back() -> Iterator[None]:
    """Delay a Ctrl-C until the end of the block; a second one ends the process at once."""
    held = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(held):
        yield
        return
    arrived: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _end_at_once)
        arrived.append((number, frame))

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        if not arrived:
            signal.signal(signal.SIGINT, held)
    if arrived:
        held(*arrived[0])


def interruptible(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that ends with status 130, without a traceback, on Ctrl-C."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        with reporting_interruption():
            return command(*arguments, **options)

    return run


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGINT, _end_at_once)
    raise KeyboardInterrupt


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED_STATUS)
