"""The comparison with data-juicer: what needs no environment with it."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks.preparation_peer import main, peer_versions, recipe, rows_of, run


def test_ratios_are_to_the_first_program_with_and_without_its_start() -> None:
    def turn(cpu_s: float, peak: float) -> dict[str, float]:
        return {"CPU s": cpu_s, "peak MiB": peak, "sum of resident sets MiB": peak, "clips": 2, "clip s": 8.0}

    turns = {"peer": [turn(90, 300), turn(100, 400), turn(120, 500)], "ours": [turn(25, 100)]}
    first, second = rows_of(turns, {"peer": 40.0, "ours": 5.0}, film_s=200)
    assert first == ("peer", 2, 8.0, 100, 40.0, 2.0, 1.0, 1.0, 400, 1.0, 400)
    assert second == ("ours", 2, 8.0, 25, 5.0, 8.0, 4.0, 3.0, 100, 0.25, 100)


def test_the_cost_of_a_program_includes_processes_that_outlive_it(tmp_path: Path) -> None:
    work = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    # The child is left to whoever takes over the orphans of this process.
    starts_it = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {work!r}])"
    measured = (
        "import sys; from pathlib import Path; from benchmarks.preparation_peer import adopt_orphans, run\n"
        "adopt_orphans()\n"
        f"print(run([sys.executable, '-c', {starts_it!r}], {{}}, Path({str(tmp_path / 'log')!r})).cpu_s)"
    )
    cost = run([sys.executable, "-c", measured], {}, tmp_path / "outer")
    assert float((tmp_path / "outer").read_text()) >= 0.4
    assert cost.peak_bytes > 2**20
    with pytest.raises(SystemExit, match="status 3"):
        run([sys.executable, "-c", "raise SystemExit(3)"], {}, tmp_path / "log")


def test_without_the_peer_the_commands_that_install_it_are_printed(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no data_juicer(.|\n)*pip install py-data-juicer"):
        peer_versions(Path(sys.executable))
    with pytest.raises(SystemExit, match="cannot be run"):
        peer_versions(tmp_path / "python")
    with pytest.raises(SystemExit, match="contains no videos"):
        main([str(tmp_path), "--peer-python", sys.executable])


def test_the_peer_gets_the_films_and_our_encoder(tmp_path: Path) -> None:
    settings = json.loads(recipe([tmp_path / "a.mp4"], tmp_path).read_text())
    (line,) = (tmp_path / "films.jsonl").read_text().splitlines()
    assert json.loads(line)["videos"] == [str(tmp_path / "a.mp4")]
    (split,) = (one for step in settings["process"] for name, one in step.items() if "split" in name)
    assert "libx264" in split["ffmpeg_extra_args"]
    assert settings["np"] == 1
