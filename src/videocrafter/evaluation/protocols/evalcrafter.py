"""EvalCrafter (arXiv 2310.11440): by its published definitions, and bug for bug as its released code computes it.

The weights of the totals are those of the released code, fitted to the votes on its own videos. Several are negative,
and they fit the released code's numbers, so `evalcrafter` has no totals.
"""

from __future__ import annotations

from videocrafter.evaluation.protocols.protocol import Protocol, Total

_PROMPTS_FILE = "metadata.json or prompt700.txt of the EvalCrafter repository, 700 prompts"
_PROMPTS_SHA256 = "eabad4a13c4dea275468e5b95dc7fa7a5dd82b3cffad9c2d55310e450082ed7a"

EVALCRAFTER = Protocol(
    name="evalcrafter",
    version=1,
    description="EvalCrafter's metrics by their published definitions",
    prompts_file=_PROMPTS_FILE,
    prompts_sha256=_PROMPTS_SHA256,
    num_prompts=700,
    metrics=(
        "vqa_aesthetic",
        "vqa_technical",
        "inception_score",
        "clip_score",
        "sd_score",
        "blip_bleu",
        "object_presence",
        "object_count",
        "object_colour",
        "action_accuracy",
        "raft_flow",
        "raft_amplitude",
        "clip_temp",
        "clip_first_frame",
        "raft_warping_error",
    ),
)

EVALCRAFTER_COMPAT = Protocol(
    name="evalcrafter-compat",
    version=1,
    description="EvalCrafter as its released code computes it, deviations from its definitions included",
    prompts_file=_PROMPTS_FILE,
    prompts_sha256=_PROMPTS_SHA256,
    num_prompts=700,
    metrics=(
        "vqa_aesthetic",
        "vqa_technical",
        "inception_score",
        "clip_score_compat",
        "sd_score_compat",
        "blip_bleu_compat",
        "object_presence",
        "object_count",
        "object_colour_compat",
        "action_compat",
        "raft_flow",
        "raft_amplitude_compat",
        "clip_temp_compat",
        "clip_first_frame_compat",
        "raft_warping_error_compat",
    ),
    totals={
        "visual_quality": Total(
            weights={
                "vqa_aesthetic": (0.03004555, 100.0),
                "vqa_technical": (0.02887537, 100.0),
                "inception_score": (-0.01382558, 100.0),
            },
            intercept=0.08707463,
            scale=500.0,
        ),
        "temporal_consistency": Total(
            weights={
                "clip_temp_compat": (2.92492244, 1.0),
                "raft_warping_error_compat": (0.45475678, 1.0),
                "clip_first_frame_compat": (0.17561504, 1.0),
            },
            complements=("raft_warping_error_compat",),
            intercept=-3.42274051,
            scale=500.0,
        ),
        "motion_quality": Total(
            weights={
                "action_compat": (-0.01641512, 1.0),
                "raft_amplitude_compat": (-0.01340959, 1.0),
                "raft_flow": (-0.10517075, 100.0),
            },
            intercept=0.12975620,
            scale=500.0,
        ),
    },
)
