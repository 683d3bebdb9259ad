"""Checks of saved loader positions, and their redistribution over a different number of processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from videocrafter.data.source import ClipSource

State = dict[str, Any]
"""A position as JSON values."""


class DataMismatchError(ValueError):
    """A saved position belongs to different data.

    Attributes:
        difference: the difference, such as "seed was 0 and is 1".
    """

    def __init__(self, difference: str) -> None:
        super().__init__(
            f"the saved position belongs to different data: {difference}; use the same data, or load no position to "
            "start with the first batch"
        )
        self.difference = difference


def fingerprint(
    sources: Sequence[ClipSource], weights: Sequence[float], *, seed: int, rank: int, world_size: int
) -> State:
    """Return everything that must be equal for a position to refer to the same samples."""
    described = [
        {
            "label": source.label,
            "kind": source.kind,
            "num_shards": source.num_shards,
            "shards_together": source.shards_together,
            "weight": weight,
        }
        for source, weight in zip(sources, weights, strict=True)
    ]
    return {"sources": described, "seed": seed, "rank": rank, "world_size": world_size}


def check_state(state: State, expected: State) -> None:
    """Check that a state belongs to this loader. Labels of sources may differ, so that data can be moved.

    Raises:
        DataMismatchError: the state belongs to different data.
        ValueError: not the state of a loader.
    """
    saved = state.get("dealt")
    if not isinstance(saved, dict) or "flows" not in state:
        raise ValueError("not the state of a loader, expected what state_dict returned")
    if len(saved["sources"]) != len(expected["sources"]):
        raise _differs("number of sources", len(saved["sources"]), len(expected["sources"]))
    for before, now in zip(saved["sources"], expected["sources"], strict=True):
        for name in ("kind", "num_shards", "shards_together", "weight"):
            if before[name] != now[name]:
                raise _differs(f"{name} of source {now['label']}", before[name], now[name])
    for name in ("seed", "world_size", "rank"):
        if saved[name] != expected[name]:
            raise _differs(name, saved[name], expected[name])


def redistribute_states(states: Sequence[State], world_size: int) -> list[State]:
    """Convert the states of all processes into states for a different number of processes.

    All processes resume after the furthest sample that any process had reached, so that no sample of the epoch comes
    twice. Samples that slower processes had not reached, or that were waiting for a batch of their shape, are
    skipped.

    Args:
        states: one per process, in any order.
        world_size: new number of processes.

    Returns:
        One state per process, by rank.

    Raises:
        ValueError: states are missing, or `world_size` is below 1.
    """
    ranks = sorted(state["dealt"]["rank"] for state in states)
    if not states or ranks != list(range(states[0]["dealt"]["world_size"])):
        raise ValueError(f"states are from ranks {ranks}, expected one from each process")
    if world_size < 1:
        raise ValueError(f"world_size is {world_size}, expected 1 or more")
    # Everything taken from the first process is equal in all of them, or a count that need not be exact.
    first: State = min(states, key=lambda state: state["dealt"]["rank"])
    found: list[State] = []
    for rank in range(world_size):
        state = json.loads(json.dumps(first))
        state["dealt"] |= {"rank": rank, "world_size": world_size}
        state["num_batches"] = max(other["num_batches"] for other in states)
        for kind, flow in state["flows"].items():
            positions = [other["flows"][kind]["position"] for other in states]
            flow["pending"] = []
            flow["position"]["places"] = [
                {"first": _furthest(places, first["dealt"]), "unit": 0, "offset": 0}
                for places in zip(*(position["places"] for position in positions), strict=True)
            ]
        found.append(state)
    return found


def _furthest(places: Sequence[State], saved: State) -> int:
    """Return the number of shards of the sequence that are consumed or skipped. A begun window counts as a whole."""
    together = max(source["shards_together"] for source in saved["sources"])
    begun = [place["unit"] + (together if place["offset"] else 0) for place in places]
    return int(places[0]["first"]) + max(begun) * int(saved["world_size"])


def _differs(name: str, saved: object, now: object) -> DataMismatchError:
    return DataMismatchError(f"{name} was {saved} and is {now}")
