"""The device of a plan, as `--device` and `--flops` describe it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from videocrafter.training.planning.plan import Machine

_UNITS = {"": 2**30, "m": 2**20, "g": 2**30, "t": 2**40}
_POWERS = {"": 1.0, "g": 1e9, "t": 1e12, "p": 1e15}


def parse_device(text: str | None, count: int, reserved: Mapping[str, int] | None = None) -> Machine:
    """Return the machine that `--device` describes.

    Args:
        text: "24GB", "80 GiB", "cpu:16GB"; None is this computer. As with memory chips, 1 GB is 2**30 bytes.
        count: number of devices.
        reserved: bytes by kind of device that a plan leaves free; None is training's.

    Raises:
        ValueError: the text is not a device, or its memory is at most the reserve.
    """
    from videocrafter.training.planning.plan import RESERVED, Machine

    if text is None:
        return this_machine(count)
    kind, _, size = text.strip().rpartition(":")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mgt]?)(?:i?b)?", size.strip().lower())
    if match is None or kind.lower() not in ("", "gpu", "cuda", "cpu"):
        raise ValueError(f"--device {text!r} is not an amount of memory; write 24GB for a GPU, or cpu:16GB")
    memory = int(float(match[1]) * _UNITS[match[2]])
    machine = Machine(kind="cpu" if kind.lower() == "cpu" else "gpu", memory=memory, count=count)
    free = (RESERVED if reserved is None else reserved)[machine.kind]
    if memory <= free:
        raise ValueError(
            f"--device {text!r} is too small; give more than the {free / 2**30:g} GB that libraries and driver need"
        )
    return machine


def this_machine(count: int) -> Machine:
    """Return this computer as a machine: its GPU's memory, or its main memory.

    Raises:
        ValueError: the system does not report its memory.
    """
    import torch

    from videocrafter.pipelines.generation_memory import available_memory
    from videocrafter.training.planning.plan import Machine

    if torch.cuda.is_available():
        _, memory = torch.cuda.mem_get_info()
        return Machine(kind="gpu", memory=memory, count=count)
    available = available_memory(torch.device("cpu"))
    if available is None:
        raise ValueError("this system does not report how much memory it has; give it with --device cpu:16GB")
    return Machine(kind="cpu", memory=available // count, count=count)


def parse_flops(text: str) -> float:
    """Parse operations per second from a text such as "312T", "19.5 TFLOP/s" or "1.2e14".

    Raises:
        ValueError: the text is not such a number above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([gtp]?)(?:flops?(?:/s)?)?", text.strip().lower())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"--flops {text!r} is not a number of operations per second; write 312T or 9.9e14")
    return float(match[1]) * _POWERS[match[2]]
