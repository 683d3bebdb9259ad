"""Weights that users supply: a table of names, files, hashes, licences and interfaces, and their checked loading.

Put the files in one folder. A file whose hash the table knows is found by its name. For the others, and for files of
another name, `weights.json` in that folder pins the hash:

    {"raft": {"file": "raft.pt", "sha256": "5f2c…"}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from videocrafter.checkpoints.pinned_files import MANIFEST, read_pins
from videocrafter.data.text_files import decode_text
from videocrafter.media.file_hash import file_sha256

Interface = Literal[
    "frame_score", "frame_embedding", "video_scores", "flow", "i3d", "inception", "action", "detector", "captioner"
]
"""Calling conventions of TorchScript modules; `torchscript.py` documents and implements each."""


@dataclass(frozen=True, kw_only=True)
class WeightSpec:
    """A network that some metrics need.

    Attributes:
        file: file name to look for.
        sha256: hash of the published file; None where users export the TorchScript file themselves.
        licence: licence of the published weights.
        origin: who published them.
        interface: how the TorchScript module is called.
        measures: what the network is used for.
    """

    file: str
    sha256: str | None
    licence: str
    origin: str
    interface: Interface
    measures: str


WEIGHTS: Mapping[str, WeightSpec] = {
    "inception": WeightSpec(
        file="inception-2015-12-05.pt",
        sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        licence="NVIDIA Source Code License (the file); Apache-2.0 (the network)",
        origin="NVIDIA's TorchScript translation of the TensorFlow Inception of 2015",
        interface="inception",
        measures="inception score; Fréchet and kernel distances of frames",
    ),
    "i3d": WeightSpec(
        file="i3d_torchscript.pt",
        sha256=None,
        licence="Apache-2.0",
        origin="StyleGAN-V's TorchScript translation of I3D on Kinetics-400",
        interface="i3d",
        measures="FVD and KVD",
    ),
    "dover": WeightSpec(
        file="dover.pt",
        sha256=None,
        licence="S-Lab License 1.0 (non-commercial)",
        origin="VQAssessment/DOVER, exported to TorchScript",
        interface="video_scores",
        measures="aesthetic and technical video quality (VQA_A, VQA_T)",
    ),
    "musiq": WeightSpec(
        file="musiq_spaq.pt",
        sha256=None,
        licence="Apache-2.0",
        origin="MUSIQ on SPAQ (Google Research), exported to TorchScript",
        interface="frame_score",
        measures="imaging quality of frames, 0 to 100",
    ),
    "laion_aesthetic": WeightSpec(
        file="laion_aesthetic.pt",
        sha256=None,
        licence="MIT",
        origin="LAION's linear head with CLIP ViT-L/14 in one TorchScript module",
        interface="frame_score",
        measures="aesthetic quality of frames, 0 to 10",
    ),
    "dino": WeightSpec(
        file="dino_vitb16.pt",
        sha256=None,
        licence="Apache-2.0",
        origin="DINO ViT-B/16 (Meta), exported to TorchScript",
        interface="frame_embedding",
        measures="subject consistency",
    ),
    "raft": WeightSpec(
        file="raft_things.pt",
        sha256=None,
        licence="BSD-3-Clause",
        origin="RAFT on FlyingThings (Princeton), exported to TorchScript",
        interface="flow",
        measures="optical flow: flow score, amplitude class, warping error",
    ),
    "action": WeightSpec(
        file="action_kinetics400.pt",
        sha256=None,
        licence="CC-BY-NC-4.0 (VideoMAE V2)",
        origin="a Kinetics-400 classifier such as VideoMAE V2-B, exported to TorchScript; needs labels",
        interface="action",
        measures="action recognition",
    ),
    "detector": WeightSpec(
        file="detector_coco.pt",
        sha256=None,
        licence="as of the network",
        origin="an object detector for COCO, exported to TorchScript; needs labels",
        interface="detector",
        measures="named objects, their count and their colour",
    ),
    "captioner": WeightSpec(
        file="captioner.pt",
        sha256=None,
        licence="as of the network",
        origin="an image captioner such as BLIP-2, exported to TorchScript",
        interface="captioner",
        measures="BLIP-BLEU: captions of frames against the prompt",
    ),
}
"""Networks by the name under which metrics need them."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A weight file that exists and has the expected hash.

    Attributes:
        path: the file.
        sha256: its verified hash.
        labels: class names of a classifier or detector, one per line of `NAME.labels.txt` next to the file.
        identity: the hash, and that of the labels if there are any.
    """

    path: Path
    sha256: str
    labels: tuple[str, ...] = ()

    @property
    def identity(self) -> str:  # see the attributes
        if not self.labels:
            return self.sha256
        return f"{self.sha256}, labels {hashlib.sha256(chr(10).join(self.labels).encode()).hexdigest()}"


def find_weights(folder: Path | None) -> dict[str, WeightFile]:
    """Return the weights of a folder by name, with verified hashes. None has none.

    Raises:
        ValueError: the manifest is not valid, a file has another hash than expected or no pinned hash, or labels that
            the network needs are missing or blank.
        OSError: a file cannot be read.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; pass a folder of weight files")
    pinned = read_pins(folder / MANIFEST, WEIGHTS)
    found: dict[str, WeightFile] = {}
    for name, spec in WEIGHTS.items():
        file, expected = pinned.get(name, (spec.file, spec.sha256))
        path = folder / file
        if not path.is_file():
            if name in pinned:
                raise ValueError(f"{folder / MANIFEST} names {file} for {name}, but {path} does not exist")
            continue
        actual = file_sha256(path)
        if expected is None:
            raise ValueError(
                f'{path} has no pinned hash; add {{"{name}": {{"file": "{file}", "sha256": "{actual}"}}}} to '
                f"{folder / MANIFEST} if this is the file that you trust"
            )
        for known in dict.fromkeys((expected, spec.sha256 or expected)):
            if actual != known:
                raise ValueError(f"{path} has SHA-256 {actual}, expected {known}; download or export it again")
        found[name] = WeightFile(
            path=path, sha256=actual, labels=_labels(path, is_needed=spec.interface in ("action", "detector"))
        )
    return found


def needed_files(name: str) -> dict[str, Any]:
    """Return what a user must supply for a network, for reports."""
    spec = WEIGHTS[name]
    return {
        "name": name,
        "file": spec.file,
        "sha256": spec.sha256 or f"of your export, pinned in {MANIFEST}",
        "licence": spec.licence,
        "origin": spec.origin,
        "interface": spec.interface,
    }


def _labels(path: Path, *, is_needed: bool) -> tuple[str, ...]:
    file = path.with_suffix(".labels.txt")
    if not file.is_file():
        if is_needed:
            raise ValueError(f"{path} needs the names of its classes; put them into {file}, one per line")
        return ()
    labels = tuple(line.strip() for line in decode_text(file.read_bytes(), str(file)).rstrip().splitlines())
    if not all(labels):
        number = labels.index("") + 1 if labels else 1
        raise ValueError(
            f"{file}: line {number} is blank, so the numbers of the classes would shift; remove or fill it"
        )
    if not labels:
        raise ValueError(f"{file} is empty; expected the names of the classes, one per line")
    return labels
