"""Options of `videocrafter generate` about LoRAs, devices, precision and memory; see `options`."""

from __future__ import annotations

from typing import Annotated

from videocrafter.cli.generate.options import option

_RUN = "Models and hardware"

Lora = Annotated[
    list[str] | None,
    option(
        "--lora",
        metavar="PATH[:WEIGHT]",
        about="LoRA file or folder, and its weight (default: 1). Can be given several times.",
        panel=_RUN,
    ),
]
BatchSize = Annotated[
    int,
    option(
        "--batch-size",
        metavar="N",
        about="Videos generated at once (default: 1). More is faster and needs more memory.",
        panel=_RUN,
    ),
]
Device = Annotated[
    str,
    option(
        "--device",
        metavar="NAME",
        about="cpu, cuda, cuda:1, mps, or auto for an accelerator if there is one (default: auto).",
        panel=_RUN,
    ),
]
Dtype = Annotated[
    str | None,
    option("--dtype", metavar="NAME", about="Precision: float32 (default), bfloat16 or float16.", panel=_RUN),
]
Devices = Annotated[
    int,
    option(
        "--devices", metavar="N", about="Number of GPUs, or of processes on a CPU, to use (default: 1).", panel=_RUN
    ),
]
Split = Annotated[
    str,
    option(
        "--split",
        metavar="WHAT",
        about="What --devices share: videos (default), or the branches of guidance or the frames of each video.",
        panel=_RUN,
    ),
]
LowMemory = Annotated[
    bool,
    option(
        "--low-memory",
        about="Save memory in the fastest way that fits, and print it (see: videocrafter plan generate).",
        panel=_RUN,
    ),
]
IgnoreMemory = Annotated[
    bool, option("--ignore-memory", about="Generate even if the memory check fails.", panel=_RUN)
]
