"""Which loader a saved position belongs to, and how positions are dealt to another number of processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from videocrafter.data.source import ClipSource

State = dict[str, Any]


class OtherDataError(ValueError):
    """A saved position is of other data than these.

    Attributes:
        difference: what differs, such as "seed was 0 and is 1".
    """

    def __init__(self, difference: str) -> None:
        super().__init__(
            f"the data are not those of the saved position: {difference}; give the same, or load no position to "
            "begin with the first batch"
        )
        self.difference = difference


def fingerprint(
    sources: Sequence[ClipSource], weights: Sequence[float], *, seed: int, rank: int, world_size: int
) -> State:
    """Everything that has to be the same for a position to mean the same samples."""
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


def check_state(state: State, dealt: State) -> None:
    """Refuse a state that another loader saved.

    Raises:
        OtherDataError: names what differs. The labels of sources may, so that data can be moved.
        ValueError: it is no state.
    """
    saved = state.get("dealt")
    if not isinstance(saved, dict) or "flows" not in state:
        raise ValueError("this is no state of a loader; give what state_dict returned")
    if len(saved["sources"]) != len(dealt["sources"]):
        raise _differs("number of sources", len(saved["sources"]), len(dealt["sources"]))
    for before, now in zip(saved["sources"], dealt["sources"], strict=True):
        for name in ("kind", "num_shards", "shards_together", "weight"):
            if before[name] != now[name]:
                raise _differs(f"{name} of source {now['label']}", before[name], now[name])
    for name in ("seed", "world_size", "rank"):
        if saved[name] != dealt[name]:
            raise _differs(name, saved[name], dealt[name])


def deal_again(states: Sequence[State], world_size: int) -> list[State]:
    """States for another number of processes, out of those of all processes before.

    All go on behind the sample that any process had come to, so no sample of the epoch is seen twice; those that
    slower processes had not come to yet, and those that waited for a batch of their shape, are passed over.

    Args:
        states: one of each process, in any order.
        world_size: how many there are now.

    Returns:
        One state for each process, by rank.

    Raises:
        ValueError: states are missing, or world_size is below 1.
    """
    ranks = sorted(state["dealt"]["rank"] for state in states)
    if not states or ranks != list(range(states[0]["dealt"]["world_size"])):
        raise ValueError(f"states of processes {ranks} were given, expected one of each process")
    if world_size < 1:
        raise ValueError(f"world_size is {world_size}, expected 1 or more")
    # All that is not taken from the first process is the same for all, or a count that need not be exact.
    first: State = min(states, key=lambda state: state["dealt"]["rank"])
    dealt: list[State] = []
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
        dealt.append(state)
    return dealt


def _furthest(places: Sequence[State], dealt: State) -> int:
    """Shards of the endless row that processes have taken or passed, a begun window counted as a whole."""
    together = max(source["shards_together"] for source in dealt["sources"])
    begun = [place["unit"] + (together if place["offset"] else 0) for place in places]
    return int(places[0]["first"]) + max(begun) * int(dealt["world_size"])


def _differs(name: str, saved: object, now: object) -> OtherDataError:
    return OtherDataError(f"{name} was {saved} and is {now}")
