"""A generation run on several processes, as torchrun starts them: each makes its share, or all share every video.

Importing this module is cheap: torch is imported only in a process that was launched with others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from videocrafter.generation.errors import GenerationError
from videocrafter.generation.request import GenerateOptions

if TYPE_CHECKING:
    from videocrafter.generation.mode import Pipeline

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class ProcessShare:
    """This process's share of a run.

    Attributes:
        index, count: number of this process, and of all.
        split: "videos": each process makes its own; "branches" or "frames": all work on every video.
    """

    index: int = 0
    count: int = 1
    split: str = "videos"

    def makes(self, batch: int) -> bool:
        """Whether this process takes part in a batch."""
        return self.split != "videos" or batch % self.count == self.index

    @property
    def writes(self) -> bool:
        """Whether this process writes the videos that it makes."""
        return self.split == "videos" or self.index == 0

    def prepare_pipeline(self, pipeline: Pipeline) -> None:
        """Let the processes share every video, unless each makes its own."""
        if self.count > 1 and self.split != "videos":
            pipeline.split_over_processes(self.split)  # type: ignore[arg-type]

    def wait_for_others(self) -> None:
        """Wait until all processes are here. Collective."""
        if self.count > 1:
            import torch

            torch.distributed.barrier()

    def first_alone(self, work: Callable[[], Value]) -> Value:
        """Do work in the first process, then in all others at once, and return when all are done. Collective.

        What the first one downloads or converts, the others then find.
        """
        if self.index > 0:
            self.wait_for_others()
        result = work()
        if self.index == 0:
            self.wait_for_others()
        self.wait_for_others()
        return result

    def from_first(self, value: Value) -> Value:
        """Return the first process's value. Collective."""
        if self.count == 1:
            return value
        import torch

        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]


ALONE = ProcessShare()


def launched_processes() -> int:
    """Number of processes that the launcher started, 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_shares(options: GenerateOptions, folder: Path) -> None:
    """Raise ValueError if the processes of a run cannot share each video equally.

    With an input video, which determines frames and size, frames are checked during generation.
    """
    launched = launched_processes()
    count = launched if launched > 1 else options.devices
    if count == 1 or options.split == "videos" or (options.split == "frames" and options.clip is not None):
        return
    from videocrafter.generation.low_memory import size_of_folder
    from videocrafter.generation.memory_check import requested_workload
    from videocrafter.pipelines.generation_memory import size_multiple
    from videocrafter.pipelines.parallel.frames import check_frames, check_positions

    model = size_of_folder(folder)
    work = requested_workload(options, model.defaults, 1)
    if options.split == "branches":
        if work.branches * work.num_videos % count:
            raise ValueError(
                f"split branches shares {work.branches} branches of guidance times {work.num_videos} videos, which"
                f" {count} processes cannot share equally; change batch_size, or split videos or frames"
            )
        return
    if work.window and work.window < work.num_frames:
        check_frames(work.window, count, setting="window")
    else:
        check_frames(work.num_frames, count)
    # The level with the fewest positions: if these divide, so do those of all others.
    multiple = size_multiple(model.unet, model.vae)
    check_positions(work.height // multiple, work.width // multiple, count)


def join(options: GenerateOptions, draw_seed: Callable[[], int]) -> tuple[GenerateOptions, ProcessShare]:
    """Return the options and the share of this process; with a launcher, connect to the others.

    Each process takes the GPU of its own number. All use the same seed, which the first draws if none is given.

    Raises GenerationError if a video is to be split in a single process.
    """
    count = launched_processes()
    if count == 1:
        if options.split != "videos":
            raise GenerationError(f"split {options.split} has no effect on one device; give several with `devices`")
        return options, ProcessShare()
    if options.low_memory:
        raise GenerationError("low_memory plans for one device; leave it out, or start one process")
    import torch

    device = options.device
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    share = ProcessShare(index=torch.distributed.get_rank(), count=count, split=options.split)
    seed = share.from_first(draw_seed() if options.seed is None and share.index == 0 else options.seed)
    if share.index > 0:
        options = replace(options, quiet=True, contact_sheet=None, preview=None)
    return replace(options, device=device, seed=seed), share
