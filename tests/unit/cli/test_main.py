"""The command line as a separate process: imports, output and exit status."""

import subprocess
import sys

import pytest

import videocrafter

RUN = "import sys; from videocrafter.cli.main import main; sys.argv[0] = 'videocrafter'; main()"
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "numpy", "av", "PIL")
NOT_FOR_GENERATION = (
    *(f"videocrafter.{room}" for room in ("training", "evaluation", "preparation", "web")),
    *("videocrafter.data.loader", "videocrafter.checkpoints.official.to_folder"),
    *("diffusers.models.controlnets", "diffusers.pipelines.stable_diffusion", "torch._inductor.compile_fx"),
    *("pyarrow", "pandas", "matplotlib", "scipy", "sklearn", "torchvision", "ray", "fastapi", "rich.markdown"),
)
LISTED_AT_EXIT = "import atexit, sys; atexit.register(lambda: print('heavy:', [m for m in {} if m in sys.modules]))\n"


def process(*arguments, code=RUN):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_version():
    done = process("--version")
    assert done.returncode == 0
    assert done.stdout.strip() == f"videocrafter {videocrafter.__version__}"


@pytest.mark.parametrize("module", ["videocrafter", "videocrafter.cli.main"])
def test_it_runs_as_a_module_too(module):
    """Multi-process launchers start a module."""
    command = [sys.executable, "-m", module]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == f"videocrafter {videocrafter.__version__}"
    refused = subprocess.run([*command, "generate", "--sead", "1"], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2
    assert f"Usage: python -m {module} generate" in refused.stderr


def test_help_and_listing_import_nothing_heavy():
    for arguments in (["--help"], ["generate", "--help"], ["train", "--help"], ["models"]):
        done = process(*arguments, code=LISTED_AT_EXIT.format(HEAVY) + RUN)
        assert done.returncode == 0, done.stderr
        assert "heavy: []" in done.stdout


def test_help_names_every_command():
    text = process("--help").stdout
    for command in ("generate", "models", "train", "evaluate"):
        assert command in text


@pytest.mark.slow
def test_generate_as_a_process(t2v_folder, tmp_path):
    out = tmp_path / "cat.mp4"
    code = LISTED_AT_EXIT.format(NOT_FOR_GENERATION) + RUN
    done = process("generate", "a cat", "-m", t2v_folder, "-o", out, "--seed", 1, code=code)
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stdout
    assert out.is_file()
    assert done.stderr == "", "libraries must not print into our output"
    refused = process("generate", "a cat", "-m", t2v_folder, "-o", out)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_unknown_option_ends_with_status_2():
    done = process("generate", "a cat", "--sead", "1", "-o", "x.mp4")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
