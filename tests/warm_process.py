"""Processes that start quickly, forked from a server process that has already imported the package.

Like processes of a command line, they have their own arguments and streams, receive signals and can be killed. They
do not cover import time and output during imports.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

COMMAND_LINE = "from videocrafter.cli.main import main; main()"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded"])


class WarmProcess:
    """Python code running in its own process; the methods are those of `subprocess.Popen`.

    Args:
        code: code to run as with `python -c`.
        arguments: arguments for `sys.argv`.
        cwd: working directory.
        env: variables to set in addition to those of the server process.
    """

    def __init__(
        self, code: str, *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-process-")
        self._streams = Path(self._folder.name)
        given = (code, [str(argument) for argument in arguments], str(cwd or Path.cwd()), dict(env or {}))
        self._process = _context.Process(target=_run, args=(*given, str(self._streams)))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """Exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return `returncode`."""
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """Wait for the process to end and return its exit status."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Wait for the process to end and return its standard output and standard error."""
        self.wait(timeout)
        out, err = ((self._streams / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return out, err

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def _run(code: str, arguments: list[str], cwd: str, env: dict[str, str], streams: str) -> None:
    os.chdir(cwd)
    os.environ.update(env)
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(Path(streams) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
