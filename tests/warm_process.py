"""Processes that start at once: each is forked from one that has imported the package and done nothing else.

Like those of a command line they have arguments and streams of their own, take signals and can be killed. They do not
show how long imports take, or what is printed meanwhile.
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
    """Python code that runs in a process of its own; the methods are those of `subprocess.Popen`.

    Args:
        code: runs as `python -c` would run it.
        arguments: for `sys.argv`.
        cwd: the folder that it runs in.
        env: variables to set, beside those of this process when its first such process was started.
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
        """Exit status, or the signal's number below zero; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """The exit status, once there is one."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """What it printed and what it said, once it has ended."""
        self.wait(timeout)
        out, err = ((self._streams / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return out, err

    def kill(self) -> None:
        """End it without a chance to save anything."""
        self._process.kill()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
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
