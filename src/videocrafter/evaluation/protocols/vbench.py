"""VBench (arXiv 2311.17982): the dimensions that a documented network or none computes.

Dynamic degree uses DIS flow and is therefore named as a proxy. The other dimensions need networks that no file
interface describes: motion smoothness (AMT), objects and colours (GRiT), scene (Tag2Text), style (ViCLIP).
"""

from __future__ import annotations

from videocrafter.evaluation.protocols.protocol import Protocol

VBENCH = Protocol(
    name="vbench",
    version=1,
    description="VBench's dimensions of quality that need no proprietary weights",
    prompts_file="the prompts of VBench",
    seeds=(0, 1, 2, 3, 4),
    metrics=(
        "subject_consistency",
        "background_consistency",
        "flicker",
        "dis_dynamic_degree",
        "aesthetic_quality",
        "imaging_quality",
    ),
    ranges={
        "subject_consistency": (0.1462, 1.0),
        "background_consistency": (0.2615, 1.0),
        "flicker": (0.6293, 1.0),
        "dis_dynamic_degree": (0.0, 1.0),
        "aesthetic_quality": (0.0, 1.0),
        "imaging_quality": (0.0, 1.0),
    },
)
