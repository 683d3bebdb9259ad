"""Classes that a checkpoint's pickle may name besides torch's own, each replaced by an inert stand-in of ours.

Trainers store more than tensors: epochs and scores as numpy numbers, paths, hyperparameters. None of it is needed,
so nothing of numpy, Lightning or OmegaConf is called. Only numpy arrays keep their content, as `PickledArray`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NUMPY_TYPES = "bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 str_ bytes_"
_PATHS = "PosixPath WindowsPath PurePosixPath PureWindowsPath Path PurePath"
_NAMES = (
    *(f"numpy.{name}" for name in ("ndarray", *_NUMPY_TYPES.split())),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS.split()),
    *(f"builtins.{name}" for name in ("int", "float", "str", "bool", "list", "tuple", "dict", "slice", "range")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    "argparse.Namespace",
    "types.SimpleNamespace",
    "typing.Any",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    *(f"omegaconf.nodes.{name}Node" for name in ("Any", "String", "Integer", "Float", "Boolean", "Path", "Bytes")),
)
# Lightning's dictionary with attributes, in all its packages.
_DICTIONARIES = (
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_lite.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
)


class PickledObject:
    """Stand-in for an object that is not needed. It keeps nothing."""

    def __new__(cls, *_: Any) -> PickledObject:
        """Ignore the arguments of the class that it stands for."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


class PickledDtype:
    """Stand-in for `numpy.dtype`: the type code, such as "f4", and the byte order."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        """Keep the byte order."""
        self.order = state[1]


class PickledArray:
    """Stand-in for `numpy.ndarray`: shape, type, memory order and bytes as the pickle claims them."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        """Keep the state as it is; `as_tensor` checks it."""
        self.state = state

    def as_tensor(self) -> Tensor | None:
        """Return the array as a tensor; None unless it holds numbers and exactly the bytes that its shape needs."""
        try:
            _, shape, dtype, is_fortran, data = self.state
            if dtype.code[0] not in "biuf":
                return None
            wanted = np.dtype(dtype.order + dtype.code)
            array = np.frombuffer(data, wanted).reshape(shape, order="F" if is_fortran else "C")
            return torch.from_numpy(array.astype(wanted.newbyteorder("="), order="C"))
        except (TypeError, ValueError, AttributeError, LookupError):
            return None


def allowed_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return the stand-ins in the form of `torch.serialization.safe_globals`."""
    arrays = [f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")]
    return [
        *((PickledObject, name) for name in _NAMES),
        *((PickledArray, name) for name in arrays),
        (PickledDtype, "numpy.dtype"),
        *((dict, name) for name in _DICTIONARIES),
        (_empty_dictionary, "collections.defaultdict"),
    ]


def _empty_dictionary(*_: Any) -> dict[Any, Any]:
    return {}
