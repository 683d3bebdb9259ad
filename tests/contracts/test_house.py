"""House rules that no linter checks."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "videocrafter"
FILES = sorted(SOURCE.rglob("*.py"))
BANNED = {"utils", "util", "helpers", "helper", "common", "misc"}
HEAVY = {"torch", "diffusers", "transformers", "accelerate", "peft", "av", "PIL", "numpy"}
OPTIONAL = {"pyarrow", "pandas", "matplotlib", "scipy", "pydantic", "huggingface_hub", "ray", "fastapi", "uvicorn"}


def modules_after(code: str) -> set[str]:
    """Full names of the modules that a new interpreter has loaded after running `code`."""
    report = "\nimport sys; sys.stderr.write('|' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(done.stderr.rpartition("|")[2].split())


def test_there_are_files_to_check():
    assert len(FILES) > 20


def test_no_file_is_longer_than_400_lines():
    lengths = {str(path.relative_to(SOURCE)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_function_is_longer_than_60_lines():
    too_long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            # Docstrings do not count.
            has_docstring = ast.get_docstring(node) is not None
            first = node.body[min(1, len(node.body) - 1)] if has_docstring else node.body[0]
            length = (node.end_lineno or 0) - first.lineno + 1
            if length > 60:
                too_long[f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"] = length
    assert too_long == {}


def test_no_file_has_a_banned_name():
    names = [path for path in SOURCE.rglob("*") if path.stem in BANNED and "assets" not in path.parts]
    assert names == []


def test_importing_the_package_loads_nothing_heavy():
    assert modules_after("import videocrafter") & HEAVY == set()


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['videocrafter', '--help']\n"
        "from videocrafter.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
    )
    loaded = modules_after(code)
    assert loaded & (HEAVY | OPTIONAL) == set()
    rooms = {name.split(".")[1] for name in loaded if name.startswith("videocrafter.")}
    assert rooms <= {"cli", "presets", "media", "generation"}, "commands import what they need when they run"
    assert not {name for name in loaded if name.startswith("videocrafter.generation.")} - {
        "videocrafter.generation.errors"
    }


def test_media_needs_no_deep_learning_library():
    code = "from videocrafter.media import contact_sheet, image_file, video_file"
    assert modules_after(code) & {"torch", "diffusers", "transformers"} == set()


def test_the_public_names_are_found_and_unknown_ones_refused():
    import videocrafter

    for name in videocrafter.__all__:
        assert getattr(videocrafter, name) is not None
        assert name in dir(videocrafter)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = videocrafter.Nonsense
