import errno
import os
import subprocess
import sys

import pytest

from videocrafter.cli.closed_output import exit_status


def raising(error: BaseException):
    def command():
        raise error

    return command


def ended_by_rich():
    try:
        raise BrokenPipeError
    except BrokenPipeError:
        raise SystemExit(1)  # noqa: B904  as click and rich do


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (lambda: None, 0),
        (raising(SystemExit(130)), 130),
        (raising(SystemExit(None)), 0),
        (raising(SystemExit("text")), 1),
        (raising(BrokenPipeError()), 141),
        (ended_by_rich, 141),
    ],
)
def test_a_closed_pipe_ends_a_command_quietly(command, status, capsys):
    assert exit_status(command) == status
    assert capsys.readouterr().err == ""


def test_a_full_device_gives_one_line_and_other_errors_their_traceback(capsys):
    assert exit_status(raising(OSError(errno.ENOSPC, "No space left on device"))) == 2
    assert capsys.readouterr().err == "Error: cannot write to standard output: no space left on its device\n"
    for error in (OSError(errno.ENOSPC, "full", "some/file"), OSError(errno.ENOENT, "missing"), RuntimeError()):
        with pytest.raises(type(error)):
            exit_status(raising(error))


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe without reader")
def test_as_a_process():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "videocrafter", "models"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
