"""The numbers that the training loop adds to the task's metrics in `log.jsonl`, in one table.

To log another number, add it here and measure it in `StageLoop._write_log`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LogKey:
    """A logged number that describes the run rather than the task.

    Attributes:
        name: key in `log.jsonl`.
        is_timing: the value depends on the machine, so it differs between an uninterrupted and a resumed run.
        is_total: the value accumulates over a stage, and is not plotted as a curve.
        label: name in the live view; None hides it there.
        heading: column heading in `videocrafter runs`, with the unit; None leaves the column out.
        unit: follows the value in the live view.
        scale, spec: values are multiplied by `scale` and formatted with `spec`.
    """

    name: str
    is_timing: bool = False
    is_total: bool = False
    label: str | None = None
    heading: str | None = None
    unit: str = ""
    scale: float = 1.0
    spec: str = ".4g"

    def format(self, value: float) -> str:
        """Return a value as text, without its unit."""
        return format(self.scale * value, self.spec)


LOG_KEYS: dict[str, LogKey] = {
    key.name: key
    for key in (
        LogKey(name="samples_per_s", is_timing=True, label="samples/s", heading="samples/s", spec=".3g"),
        LogKey(name="lr", label="lr"),
        LogKey(
            name="data_wait_share",
            is_timing=True,
            label="data wait",
            heading="wait %",
            unit=" %",
            scale=100,
            spec=".0f",
        ),
        LogKey(name="peak_memory_gib", is_timing=True, label="memory", heading="GiB", unit=" GiB peak", spec=".3g"),
        LogKey(name="skipped", label="skipped", unit=" steps", spec=".0f"),
        LogKey(name="loss_scale", label="loss scale"),
        LogKey(name="samples", is_total=True),
        LogKey(name="seconds", is_timing=True, is_total=True),
        # Of lines of kind "precision".
        LogKey(name="fp32_seconds", is_timing=True),
        LogKey(name="bf16_seconds", is_timing=True),
    )
}
"""Every such number by name, in the order in which views show them. Any other name is a metric of the task."""

TIMING_KEYS = frozenset(key.name for key in LOG_KEYS.values() if key.is_timing)
TOTAL_KEYS = frozenset(key.name for key in LOG_KEYS.values() if key.is_total)
