"""The protocols by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from videocrafter.evaluation.protocols.evalcrafter import EVALCRAFTER, EVALCRAFTER_COMPAT
from videocrafter.evaluation.protocols.protocol import Protocol
from videocrafter.evaluation.protocols.standard import STANDARD
from videocrafter.evaluation.protocols.vbench import VBENCH

EXAM = "exam"
"""The exam of the miniature is a protocol of its own kind: `evaluation/exam/`."""

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for protocol in (STANDARD, EVALCRAFTER, EVALCRAFTER_COMPAT, VBENCH)
}


def protocol_named(name: str) -> Protocol:
    """Return a protocol. Raises ValueError for an unknown name."""
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, [*PROTOCOLS, EXAM], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"{name!r} is not a protocol; {hint}choose {', '.join(PROTOCOLS)} or {EXAM}")
    return PROTOCOLS[name]
