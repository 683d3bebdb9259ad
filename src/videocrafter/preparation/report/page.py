"""`report.html`: one file that shows every filter, with pictures of the clips nearest to its line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from videocrafter.media.atomic_write import write_text
from videocrafter.preparation.caption.text_checks import MAX_TOKENS, count_tokens
from videocrafter.preparation.failures import REASONS
from videocrafter.preparation.report.charts import bar, histogram
from videocrafter.preparation.rows import Failure, Row
from videocrafter.preparation.select import Selection, Step

_NEAREST = 12
_MOST_GROUPS, _MOST_EXAMPLES = 12, 5

_MOVIE_GEN = (
    ("all", 100), ("size", 25), ("landscape", 7), ("no text", 1.94), ("no border", 1.87), ("one scene", 1.78),
    ("aesthetics", 1.57), ("motion", 1.32), ("no jitter", 1.22), ("not a copy", 1.15), ("resampled", 0.94),
)  # fmt: skip
_OPEN_SORA_PLAN = (
    ("all", 100), ("no jump cuts", 97), ("motion", 89), ("aesthetics", 49), ("technical quality", 44), ("motion", 42),
)  # fmt: skip
"""Published funnels in per cent of the input: Movie Gen (arXiv 2410.13720, table 44), Open-Sora Plan (2412.00131)."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}
h2{margin-top:2.5rem;border-bottom:1px solid #ccc}table{border-collapse:collapse}
td,th{padding:.2rem .7rem;text-align:left;vertical-align:top}td.n,th.n{text-align:right}
tr:nth-child(even){background:#f6f6f6}.row{display:flex;flex-wrap:wrap;gap:6px}figure{margin:0;width:120px}
figure img{width:120px;display:block}figcaption{font-size:11px;color:#555;overflow-wrap:anywhere}
svg{width:480px;max-width:100%}rect.kept{fill:#4a7db5}rect.dropped{fill:#d9a3a3}line.limit{stroke:#a00;stroke-width:2}
svg text{font-size:11px;fill:#555}.bar{display:inline-block;width:160px;height:.8em;background:#eee}
.bar span{display:block;height:100%;background:#4a7db5}.funnels{display:flex;flex-wrap:wrap;gap:2rem}
details{margin:.5rem 0}small{color:#666}
"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Contents of the report.

    Attributes:
        selection: all clips, and the filters.
        sources: all videos.
        failures: sources and clips that cannot be used.
        runs: time of each run by stage.
        in_shards: number of clips in the shards.
        thumbnail: returns the small picture of a clip, as a JPEG in base 64.
    """

    selection: Selection
    sources: Sequence[Row]
    failures: Sequence[Failure]
    runs: Sequence[dict[str, Any]]
    in_shards: int
    thumbnail: Callable[[Row], str]


def write_report(path: Path, report: Report) -> None:
    """Write the report, replacing an earlier one."""
    body = "\n".join(_sections(report))
    write_text(
        path,
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Preparation report</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n'
        f"<h1>Preparation report</h1>\n{body}\n</body></html>\n",
    )


def _sections(report: Report) -> Iterator[str]:
    rows = report.selection.rows
    yield _overview(report)
    yield '<h2 id="funnel">Funnel</h2><div class="funnels">' + _funnel(report.selection)
    yield (
        _published("Movie Gen, % of the input", _MOVIE_GEN)
        + _published("Open-Sora Plan, %", _OPEN_SORA_PLAN)
        + "</div>"
    )
    yield '<h2 id="filters">Filters</h2>'
    for step in report.selection.steps:
        if step.score:
            yield _filter(step, report)
    yield '<h2 id="copies">Near duplicates</h2>' + _copies(report)
    yield '<h2 id="captions">Captions</h2>' + _captions(rows)
    yield '<h2 id="failures">Failures</h2>' + _failures(report.failures)
    yield '<h2 id="files">Files</h2>' + _files(report)
    yield '<h2 id="times">Times</h2>' + _times(report)


def _overview(report: Report) -> str:
    rows = report.selection.rows
    kept = [row for row in rows if row["kept"]]
    hours = sum(row.get("duration_s") or 0 for row in report.sources) / 3600
    return (
        f"<p>{len(report.sources)} videos ({hours:.2f} hours), {len(rows)} clips, {len(kept)} kept, "
        f"<b>{report.in_shards} in the shards</b>. Every clip, kept or not, is in <code>manifest.parquet</code> with "
        "all its scores.</p>"
    )


def _funnel(selection: Selection) -> str:
    rows = selection.rows
    total, total_s = max(1, len(rows)), sum(row["seconds"] for row in rows)
    lines = [("clips found", "", len(rows), total_s)]
    lines += [(step.name, str(step.dropped), step.remaining, step.remaining_s) for step in selection.steps]
    cells = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{dropped}</td>'
        f'<td class="n">{remaining}</td><td class="n">{seconds / 3600:.2f}</td>'
        f'<td class="n">{100 * remaining / total:.1f}</td><td>{bar(remaining / total)}</td></tr>'
        for name, dropped, remaining, seconds in lines
    )
    head = '<tr><th>after</th><th class="n">dropped</th><th class="n">clips</th><th class="n">hours</th>'
    return f'<table>{head}<th class="n">%</th><th></th></tr>{cells}</table>'


def _published(title: str, steps: Sequence[tuple[str, float]]) -> str:
    cells = "".join(f'<tr><td>{name}</td><td class="n">{share:g}</td></tr>' for name, share in steps)
    return f"<table><tr><th colspan=2>{title}</th></tr>{cells}</table>"


def _filter(step: Step, report: Report) -> str:
    rows = [row for row in report.selection.rows if row.get(step.score) is not None]
    values = [row[step.score] for row in rows]
    title = f"<h3>{escape(step.name)}: <code>{step.score}</code></h3>"
    if not values:
        return f"{title}<p>Not measured.</p>"
    if step.threshold is None:
        return f"{title}{histogram(values, None, step.keeps)}<p>Not applied: too few clips, or a share of 0.</p>"
    sentence = f"Kept {step.keeps} {step.threshold:.4g}; {step.dropped} dropped. {_what_if(step, values)}"
    return f"{title}{histogram(values, step.threshold, step.keeps)}<p>{sentence}</p>{_nearest(step, rows, report)}"


def _what_if(step: Step, values: Sequence[float]) -> str:
    assert step.threshold is not None
    texts = []
    for factor in (0.9, 1.1):
        limit = step.threshold * factor
        dropped = sum(map(replace(step, threshold=limit).drops, values))
        texts.append(f"{dropped} at {limit:.4g}")
    return f"Of all clips, the filter alone would drop {' and '.join(texts)}."


def _nearest(step: Step, rows: Sequence[Row], report: Report) -> str:
    """Show the clips nearest to the threshold that this filter dropped, and those that all filters kept."""
    assert step.threshold is not None
    threshold = step.threshold
    measured = sorted(rows, key=lambda row: (abs(row[step.score] - threshold), row["id"]))
    dropped = [row for row in measured if row["reason"] == step.name]
    kept = [row for row in measured if row["kept"]]
    parts = []
    for title, near in (("dropped", dropped[:_NEAREST]), ("kept", kept[:_NEAREST])):
        pictures = "".join(_figure(row, f"{row[step.score]:.4g}", report) for row in near)
        parts.append(
            f'<details><summary>{len(near)} nearest {title}</summary><div class="row">{pictures}</div></details>'
        )
    return "".join(parts)


def _figure(row: Row, text: str, report: Report) -> str:
    label = f"{row['name']}, {row['start_s']:.1f} s"
    thumbnail = report.thumbnail(row)
    return (
        f'<figure><img loading="lazy" alt="" src="data:image/jpeg;base64,{thumbnail}">'
        f"<figcaption>{escape(text)}<br>{escape(label)}</figcaption></figure>"
    )


def _copies(report: Report) -> str:
    selection = report.selection
    by_id = {row["id"]: row for row in selection.rows}
    clips = sum(len(group) for group in selection.groups)
    parts = [f"<p>{len(selection.groups)} groups with {clips} clips; only the first of each is kept.</p>"]
    for group in selection.groups[:_MOST_GROUPS]:
        figures = "".join(
            _figure(by_id[name], "dropped" if by_id[name]["copy_of"] else "kept", report) for name in group[:_NEAREST]
        )
        parts.append(f'<div class="row">{figures}</div>')
    return "".join(parts)


def _captions(rows: Sequence[Row]) -> str:
    captions = [row["caption_short"] for row in rows if row["kept"] and row["caption_short"]]
    if not captions:
        return "<p>No kept clip has a caption.</p>"
    lengths = [count_tokens(caption) for caption in captions]
    long = sum(length > MAX_TOKENS for length in lengths)
    flags = Counter(flag for row in rows for flag in (row.get("caption_flags") or "").split())
    origins = Counter(row["caption_from"] or "none" for row in rows if row["kept"])
    return (
        f"{histogram(lengths, float(MAX_TOKENS), 'below')}<p>Tokens of the short captions, estimated. {long} of "
        f"{len(captions)} ({100 * long / len(captions):.1f} %) are longer than the text encoder reads.</p>"
        f"<p>Origin: {_counts(origins)}. Flags: {_counts(flags) or 'none'}.</p>"
    )


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{escape(name)} {count}" for name, count in counter.most_common())


def _failures(failures: Sequence[Failure]) -> str:
    if not failures:
        return "<p>None.</p>"
    by_reason: dict[str, list[Failure]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure)
    parts = []
    for reason, group in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        examples = "".join(f"<li>{escape(one.message or one.name)}</li>" for one in group[:_MOST_EXAMPLES])
        parts.append(f"<h3>{escape(reason)}: {len(group)}</h3><p>{escape(REASONS[reason])}</p><ul>{examples}</ul>")
    return "".join(parts)


def _files(report: Report) -> str:
    rows = [row for row in report.selection.rows if row.get("shard")]
    if not rows:
        return "<p>No clip is in a shard.</p>"
    seconds = sum(row["seconds"] for row in rows)
    rate = {
        row["source"]: row["bytes"] / max(row["duration_s"], 1e-3) for row in report.sources if "duration_s" in row
    }
    before = sum(rate[row["source"]] * row["seconds"] for row in rows)
    after, copied = sum(row["bytes"] for row in rows), sum(bool(row["copied"]) for row in rows)
    return (
        f"<p>{len(rows)} clips of {seconds / 3600:.2f} hours, {after / 1e6:.1f} MB: {after / max(before, 1):.2f} "
        f"times the bytes of the same seconds in the sources. {copied} were copied without encoding.</p>"
    )


def _times(report: Report) -> str:
    hours = sum(row.get("duration_s") or 0 for row in report.sources) / 3600
    lines = []
    for number, run in enumerate(report.runs, start=1):
        for stage, time in run["stages"].items():
            speed = ""
            if stage == "scan" and time["process_seconds"] and not time["found"]:
                speed = f"{hours / (time['process_seconds'] / 3600):.1f}"
            lines.append(
                f'<tr><td class="n">{number}</td><td>{escape(stage)}</td><td class="n">{time["units"]}</td>'
                f'<td class="n">{time["found"]}</td><td class="n">{time["seconds"]:.1f}</td>'
                f'<td class="n">{time["process_seconds"]:.1f}</td><td class="n">{speed}</td></tr>'
            )
    head = (
        "<tr><th>run</th><th>stage</th><th>units done</th><th>found done</th><th>seconds</th><th>process seconds</th>"
    )
    return f"<table>{head}<th>source hours per process hour</th></tr>{''.join(lines)}</table>"
