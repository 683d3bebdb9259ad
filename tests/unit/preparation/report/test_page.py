"""The report shows the clips that each filter dropped itself, and clips that all filters kept."""

from collections.abc import Sequence

from videocrafter.preparation.report.page import Report, write_report
from videocrafter.preparation.select import Selection, Step


def step(name: str, score: str, threshold: float) -> Step:
    return Step(
        name=name,
        setting=f"select.floors.{score}",
        score=score,
        keeps="above",
        threshold=threshold,
        dropped=1,
        remaining=1,
        remaining_s=1.0,
    )


def row(name: str, luma: float, frames: float, reason: str) -> dict:
    scores = {"luma": luma, "frames": frames, "reason": reason, "kept": not reason}
    texts = {"caption_short": "", "caption_from": "", "copy_of": ""}
    return {"id": name, "name": f"{name}.mp4", "start_s": 0.0, "seconds": 1.0, **scores, **texts}


def groups(page: str, names: Sequence[str]) -> list[list[str]]:
    """The clips in each group of pictures."""
    parts = page.split("<details>")[1:]
    return [[name for name in names if f'picture of {name}"' in part] for part in parts]


def test_a_clip_is_shown_at_the_filter_that_dropped_it(tmp_path):
    rows = [
        row("short", 5.0, 3, "few_frames"),
        row("dark", 15.0, 90, "dark"),
        row("kept", 21.0, 90, ""),
        row("copy", 22.0, 90, "copy"),
    ]
    steps = [step("few_frames", "frames", 16), step("dark", "luma", 20.0)]
    report = Report(
        selection=Selection(rows=rows, steps=steps),
        sources=[],
        failures=[],
        runs=[],
        in_shards=0,
        thumbnail=lambda one: f"picture of {one['id']}",
    )
    write_report(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text()
    assert groups(page, [one["id"] for one in rows]) == [["short"], ["kept"], ["dark"], ["kept"]]
