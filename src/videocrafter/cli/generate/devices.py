"""`videocrafter generate --devices N`: start N processes of the same command with torchrun."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from videocrafter.cli.errors import bad_input
from videocrafter.cli.generate.naming import naming_options
from videocrafter.cli.model_choice import model_folder
from videocrafter.generation.errors import GenerationError
from videocrafter.generation.processes import launched_processes
from videocrafter.generation.request import GenerateOptions
from videocrafter.generation.run import prepare


def needs_launch(options: GenerateOptions) -> bool:
    """Whether processes are wanted that no launcher has started."""
    return options.devices > 1 and launched_processes() == 1


def check_before_launch(options: GenerateOptions) -> None:
    """Check all that needs no loaded model, so that an error is one line and not that of every process."""
    with bad_input(GenerationError), naming_options():
        prepare(options, obtain=partial(model_folder, quiet=options.quiet))


def launch_command(devices: int, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs `videocrafter` with these arguments in as many processes as there are devices."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices)]
    return [*launcher, "-m", "videocrafter.cli.main", *arguments]


def launch(options: GenerateOptions) -> int:
    """Run this process's own command on all devices and return the exit status."""
    return subprocess.run(launch_command(options.devices, sys.argv[1:]), check=False).returncode
