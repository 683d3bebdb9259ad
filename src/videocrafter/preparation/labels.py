"""Calibrate a filter by eye: a page of clips near its threshold, and the threshold that fits the answers best."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from videocrafter.media.atomic_write import write_text
from videocrafter.media.json_file import read_json_object
from videocrafter.preparation.config import MAX_SHARE
from videocrafter.preparation.failures import PreparationError
from videocrafter.preparation.parquet_file import read_parquet
from videocrafter.preparation.select import Step

Row = dict[str, Any]

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Label clips: {name}</title><style>
body{{font:15px system-ui,sans-serif;max-width:1100px;margin:2rem auto}}main{{display:flex;flex-wrap:wrap;gap:10px}}
figure{{margin:0;width:160px;border:3px solid #ddd}}figure img{{width:160px;display:block}}
figure.keep{{border-color:#2a8a4a}}figure.drop{{border-color:#b03030}}figcaption{{font-size:12px;color:#555}}
</style></head><body><h1>{name}: <code>{score}</code></h1>
<p>Judge each clip for itself, then save the answers and pass the file to <code>--labels</code>.
<button id="save">Save answers</button> <span id="count"></span></p><main>{figures}</main><script>
const answers = {{}};
function show() {{ document.getElementById("count").textContent = Object.keys(answers).length + " answers"; }}
for (const button of document.querySelectorAll("figure button")) button.onclick = () => {{
  const figure = button.closest("figure");
  answers[figure.id] = button.value; figure.className = button.value; show();
}};
document.getElementById("save").onclick = () => {{
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(answers, null, 1)], {{type: "application/json"}}));
  link.download = "labels-{name}.json"; link.click();
}};
</script></body></html>
"""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A threshold for a filter, and how well it agrees with the answers.

    Attributes:
        threshold, precision: present threshold, and the share of the clips beyond it that were to be dropped.
        proposed, proposed_precision: the same for the threshold that agrees with most answers.
        agreement: share of the answers that the proposed threshold agrees with.
        setting, value: the setting that gives the proposed threshold: the threshold itself, or a share of the clips.
    """

    threshold: float
    precision: float
    proposed: float
    proposed_precision: float
    agreement: float
    setting: str
    value: float


def write_label_page(out: Path, name: str, count: int) -> tuple[Path, int]:
    """Write a page with the clips nearest to the threshold of a filter, half of them on each side.

    Returns:
        The page, and the number of clips.

    Raises:
        PreparationError: there is no finished data set, or no such filter.
    """
    step = _step(out, name)
    threshold = step.threshold or 0.0
    near = sorted(_scored(out, step), key=lambda row: (abs(row[step.score] - threshold), row["id"]))
    sides = [[row for row in near if step.drops(row[step.score]) == beyond] for beyond in (True, False)]
    chosen = [row for side in sides for row in side[: count // 2]]
    # Neither side nor score is shown, so that neither influences the answer.
    chosen.sort(key=lambda row: row["id"])
    figures = "".join(_figure(out, row) for row in chosen)
    path = out / f"label-{name}.html"
    write_text(path, _PAGE.format(name=escape(name), score=escape(step.score), figures=figures))
    return path, len(chosen)


def propose(out: Path, name: str, labels: Path) -> Proposal:
    """Return the threshold that agrees best with answers.

    Raises:
        PreparationError: there are no answers for clips of this data set.
        ValueError: the file of answers is damaged.
    """
    step, answers = _step(out, name), read_json_object(labels)
    wrong = [answer for answer in answers.values() if answer not in ("keep", "drop")]
    if wrong:
        raise PreparationError(f"{labels} contains {wrong[0]!r}, expected keep or drop")
    rows = _scored(out, step)
    pairs = [(float(row[step.score]), answers[row["id"]] == "drop") for row in rows if row["id"] in answers]
    if not pairs:
        raise PreparationError(f"{labels} contains no answers for clips of {out}")
    found = fit(pairs, step)
    if not step.is_share:
        return found
    return replace(found, value=_share(replace(step, threshold=found.proposed), rows, _dataset(out)))


def fit(pairs: Sequence[tuple[float, bool]], step: Step) -> Proposal:
    """Return the threshold that agrees with most pairs of a score and whether the clip is to be dropped."""
    values = sorted({value for value, _ in pairs})
    middles = [(one + other) / 2 for one, other in pairwise(values)]
    present = step.threshold or 0.0
    candidates = [values[0], *middles, values[-1], present]

    def agreement(threshold: float) -> float:
        at = replace(step, threshold=threshold)
        return sum(at.drops(value) == is_bad for value, is_bad in pairs) / len(pairs)

    best = max(candidates, key=lambda one: (agreement(one), -abs(one - present)))
    return Proposal(
        threshold=present,
        precision=_precision(pairs, step),
        proposed=best,
        proposed_precision=_precision(pairs, replace(step, threshold=best)),
        agreement=agreement(best),
        setting=step.setting,
        value=best,
    )


def _share(step: Step, rows: Sequence[Row], dataset: Mapping[str, Any]) -> float:
    """Return the share of the clips that reached a filter which its threshold drops, as the setting counts it."""
    select = dataset["settings"]["select"]
    names = [one["name"] for one in dataset["filters"]]
    # Both filters by motion count the same clips.
    earlier = names[: names.index("static" if step.name == "little_motion" else step.name)]
    reached = [row for row in rows if row["reason"] not in earlier]
    share = sum(step.drops(row[step.score]) for row in reached) / max(1, len(reached))
    share /= 2 if select["level"] == "finetune" else 1
    if step.name == "little_motion":
        share -= select["shares"]["least_motion"]
    return min(max(share, 0.0), MAX_SHARE)


def _precision(pairs: Sequence[tuple[float, bool]], step: Step) -> float:
    dropped = [is_bad for value, is_bad in pairs if step.drops(value)]
    return sum(dropped) / len(dropped) if dropped else 1.0


def _dataset(out: Path) -> dict[str, Any]:
    path = out / "dataset.json"
    if not path.is_file():
        raise PreparationError(f"{out} contains no finished data set; run videocrafter prepare first")
    return read_json_object(path)


def _step(out: Path, name: str) -> Step:
    steps = [Step(**step) for step in _dataset(out)["filters"]]
    usable = {step.name: step for step in steps if step.score and step.threshold is not None}
    if name not in usable:
        known = ", ".join(usable)
        raise PreparationError(f"there is no filter {name!r} with a threshold; filters are {known}")
    return usable[name]


def _scored(out: Path, step: Step) -> list[Row]:
    """Return the clips that have the score of a filter."""
    return [row for row in read_parquet(out / "manifest.parquet") if row[step.score] is not None]


def _figure(out: Path, row: Row) -> str:
    label = escape(f"{row['name']}, {row['start_s']:.1f} s")
    buttons = "".join(f'<button value="{answer}">{answer}</button>' for answer in ("keep", "drop"))
    image = f'<img alt="" src="data:image/jpeg;base64,{_thumbnail(out, row)}">'
    return f'<figure id="{row["id"]}">{image}<figcaption>{label}<br>{buttons}</figcaption></figure>'


def _thumbnail(out: Path, row: Row) -> str:
    for path in (out / "work" / "scan" / row["source"][:2]).glob(f"{row['source']}-*.json"):
        for piece in json.loads(path.read_bytes()).get("ok", {}).get("pieces", []):
            if piece["id"] == row["id"]:
                return str(piece["thumbnail"])
    return ""
