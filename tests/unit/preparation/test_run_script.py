"""`runs/prepare.sh` makes films only where the user names none."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "runs" / "prepare.sh"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs bash")


@pytest.mark.parametrize("films", [None, "mine"])
def test_films_are_made_only_if_none_are_named(tmp_path, films):
    for name in ("python", "videocrafter"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> {tmp_path}/calls\n[[ $1 != -m ]] || mkdir -p "$3"\n')
        program.chmod(0o755)
    named = {"FILMS": str(tmp_path / films)} if films else {}
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **named}
    subprocess.run(["bash", SCRIPT, tmp_path / "out"], env=environment, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    expected = tmp_path / "mine" if films else tmp_path / "out" / "films"
    assert any(call.startswith("python ") for call in calls) == (films is None)
    assert f"videocrafter prepare {expected} " in calls[-4]
    assert (tmp_path / "out" / "films").exists() == (films is None)
