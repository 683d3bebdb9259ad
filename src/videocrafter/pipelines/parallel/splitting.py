"""Split the denoiser's work on one video over processes."""

from __future__ import annotations

from typing import Any, Literal

from videocrafter.pipelines.parallel.branches import BranchSplit
from videocrafter.pipelines.parallel.frames import FrameSplit
from videocrafter.pipelines.parallel.group import Group

Split = Literal["branches", "frames"]


class SplittingMixin:
    """Mixin for a `DiffusionPipeline` with the network `unet`."""

    unet: Any
    _split: BranchSplit | FrameSplit | None = None

    @property
    def denoiser(self) -> Any:
        """The network that sampling calls: `unet`, or what shares its work with other processes."""
        return self.unet if self._split is None else self._split

    def split_over_processes(self, what: Split | None, group: Group | None = None) -> None:
        """Share every call of the denoiser with the other processes of a group; each must make the same calls.

        Args:
            what: "branches" of guidance, "frames", or None to stop sharing.
            group: the processes; None takes all.

        Raises ValueError for another word, or if the pipeline is offloaded: sharing reads weights that are elsewhere.
        """
        if what is not None and self.is_offloaded():  # type: ignore[attr-defined]
            raise ValueError("an offloaded pipeline cannot be split over processes; use one or the other")
        if isinstance(self._split, FrameSplit):
            self._split.close()
        self._split = None
        group = Group() if group is None else group
        if what == "branches":
            self._split = BranchSplit(self.unet, group)
        elif what == "frames":
            self._split = FrameSplit(self.unet, group)
        elif what is not None:
            raise ValueError(f"split must be branches or frames, but is {what!r}")
