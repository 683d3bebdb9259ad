"""Settings of a preparation. Each stage has its own group, so that a change repeats only what depends on it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Level = Literal["pretrain", "finetune"]

MAX_SHARE = 0.45
"""Largest share that a filter may drop; `finetune` doubles it."""

_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SourceLimits:
    """Sources that are left out before they are scanned.

    Attributes:
        min_duration_s: shortest video, in seconds.
        min_fps, max_fps: frame rates; slower ones are slide shows.
        min_side: smallest short side, in pixels.
        max_aspect: largest ratio of the sides.
    """

    min_duration_s: float = 2.0
    min_fps: float = 16.0
    max_fps: float = 120.0
    min_side: int = 256
    max_aspect: float = 3.0

    def __post_init__(self) -> None:
        _check("sources", self, dict.fromkeys(("min_duration_s", "min_fps", "min_side"), 0.0) | {"max_aspect": 1.0})
        if self.max_fps < self.min_fps:
            raise ValueError(f"sources.max_fps is {self.max_fps}, expected at least sources.min_fps ({self.min_fps})")


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """Measurements, and the division of a video into pieces.

    Attributes:
        long_side: size of the pictures that are measured, in pixels.
        sample_fps: measurements of motion and light per second.
        cut_ratio: a cut differs from the frames around it by this factor (PySceneDetect's adaptive threshold).
        cut_window: number of frames on each side that a cut is compared with.
        min_cut: smallest difference of a cut (PySceneDetect's `min_content_val`, 0 to 255).
        trim_frames: frames left out at both sides of a cut.
        slow_transitions: whether to look for fades and dissolves.
        min_clip_s, max_clip_s: lengths of the pieces; a longer shot is divided evenly.
        window_s: longer videos are scanned in windows of this many seconds, in parallel.
    """

    long_side: int = 256
    sample_fps: float = 4.0
    cut_ratio: float = 3.5
    cut_window: int = 3
    min_cut: float = 15.0
    trim_frames: int = 3
    slow_transitions: bool = True
    min_clip_s: float = 2.0
    max_clip_s: float = 20.0
    window_s: float = 600.0

    def __post_init__(self) -> None:
        _check("scan", self, {"sample_fps": 0.1, "cut_ratio": 0.0, "cut_window": 1, "min_cut": 0.0, "trim_frames": 0})
        if self.long_side < 64:
            raise ValueError(f"scan.long_side is {self.long_side}, expected 64 or more pixels")
        if not 0 < self.min_clip_s <= self.max_clip_s:
            raise ValueError(
                f"scan.min_clip_s is {self.min_clip_s} and scan.max_clip_s {self.max_clip_s}; "
                "expected 0 < min_clip_s <= max_clip_s"
            )
        if self.window_s < 2 * self.max_clip_s:
            raise ValueError(f"scan.window_s is {self.window_s}, expected at least twice scan.max_clip_s")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Scores by networks, none by default.

    Attributes:
        text: whether to measure the area of text, with the network in the package `rapidocr`.
        weights: folder of networks that you supply, for aesthetics, unsafe content and watermarks, with the hashes
            in `weights.json`; None for none.
        frames: pictures of each clip.
        long_side: size of the pictures, in pixels.
    """

    text: bool = False
    weights: str | None = None
    frames: int = 3
    long_side: int = 768

    def __post_init__(self) -> None:
        _check("score", self, {"frames": 1, "long_side": 64})

    @property
    def is_used(self) -> bool:
        """Whether there is anything to score."""
        return self.text or self.weights is not None


@dataclass(frozen=True, kw_only=True)
class Floors:
    """Absolute limits: a clip beyond one of them is dropped, whatever the others are like.

    Shares are from 0 to 1, luma from 0 to 255. Frozen is the share of time without change for at least 0.25 s. Limits
    on scores that were not computed drop nothing.
    """

    max_frozen: float = 0.5
    max_blank: float = 0.1
    max_damaged: float = 0.0
    min_luma: float = 20.0
    max_luma: float = 235.0
    max_false_cuts_per_s: float = 0.85
    min_bits_per_pixel: float = 0.02
    min_picture: float = 0.6
    min_frames: int = 16
    max_text: float = 0.07
    max_nsfw: float = 0.5
    max_watermark: float = 0.8


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Parts of the clips that are dropped, from the worst end of each score. `finetune` doubles them.

    Attributes:
        least_motion: dropped for the smallest motion; as absolute numbers do not transfer between data sets.
        little_motion: the next least moving part, of which half is kept.
        most_shake, most_blur, least_aesthetics: dropped by these scores, if they were computed.
        min_clips: with fewer clips than this, shares mean nothing and are not applied.
    """

    least_motion: float = 0.10
    little_motion: float = 0.15
    most_shake: float = 0.02
    most_blur: float = 0.10
    least_aesthetics: float = 0.25
    min_clips: int = 20

    def __post_init__(self) -> None:
        for name, share in asdict(self).items():
            if name != "min_clips" and not 0 <= share <= MAX_SHARE:
                raise ValueError(f"select.shares.{name} is {share}, expected a share from 0 to {MAX_SHARE}")


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """The recipe that chooses clips by their stored scores.

    Attributes:
        level: `pretrain`, or `finetune`, which drops twice the shares.
        copy_distance: largest mean Hamming distance of the 64-bit hashes of two near duplicates; -1 keeps copies.
        validation: share of the source videos whose clips go to the validation split.
    """

    level: Level = "pretrain"
    floors: Floors = field(default_factory=Floors)
    shares: Shares = field(default_factory=Shares)
    copy_distance: float = 6.0
    validation: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise ValueError(f"select.validation is {self.validation}, expected a share from 0 to less than 1")


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Files of the clips.

    Attributes:
        max_short_side: larger clips are scaled down to it, in pixels; None keeps the size.
        crf: quality of H.264, 0 to 51; lower is better.
        preset: speed of the encoder, as x264 names it.
        copy: whether to copy the stream instead of encoding it, where a clip is at least half of its video, begins
            at a keyframe, ends at another one or with the video, and needs neither crop nor scaling.
    """

    max_short_side: int | None = 720
    crf: int = 18
    preset: str = "medium"
    copy: bool = True

    def __post_init__(self) -> None:
        _check("clip", self, {"crf": 0})
        if self.crf > 51:
            raise ValueError(f"clip.crf is {self.crf}, expected 0 to 51")
        if self.max_short_side is not None and self.max_short_side < 2:
            raise ValueError(f"clip.max_short_side is {self.max_short_side}, expected 2 or more pixels, or null")
        if self.preset not in _PRESETS:
            raise ValueError(f"clip.preset is {self.preset!r}, expected one of {', '.join(_PRESETS)}")


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """Captions.

    Attributes:
        text: caption of clips that have neither a given one nor one of a model.
        url: address of an OpenAI-compatible chat endpoint that takes pictures, such as
            `http://localhost:8000/v1/chat/completions`.
        model: name for the endpoint, or, without `url`, folder of a local transformers model.
        key_variable: environment variable with the endpoint's key.
        frames: pictures per clip for the model.
        max_tokens: largest number of tokens of the short caption.
        concurrency: requests of one process at the same time.
        tries: attempts per clip.
        prompt_version: stored with each caption; change it together with the prompts.
        prompt_short, prompt_dense: instructions for the model.
    """

    text: str | None = None
    url: str | None = None
    model: str | None = None
    key_variable: str = "VIDEOCRAFTER_CAPTION_KEY"
    frames: int = 4
    max_tokens: int = 60
    concurrency: int = 4
    tries: int = 3
    prompt_version: str = "1"
    prompt_short: str = (
        "These pictures are from one short video, in order. Describe the video in one sentence of at most 25 words: "
        "subject, action, place. Do not mention pictures or video."
    )
    prompt_dense: str = (
        "These pictures are from one short video, in order. Describe subject, action, background, light, camera and "
        "style in 80 to 120 words. State facts only."
    )

    def __post_init__(self) -> None:
        _check("caption", self, dict.fromkeys(("frames", "max_tokens", "concurrency", "tries"), 1))


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """Tar files. One is full after `max_clips` clips or `max_bytes` bytes."""

    max_clips: int = 1000
    max_bytes: int = 1_000_000_000

    def __post_init__(self) -> None:
        _check("shard", self, {"max_clips": 1, "max_bytes": 1})


@dataclass(frozen=True, kw_only=True)
class ProcessLimits:
    """Limits on the process that handles a unit.

    Attributes:
        base_s, per_video_s: a unit may take `base_s` plus `per_video_s` times the length of its video, in seconds.
        min_bytes_per_s: slowest download, and slowest writing of a shard; slower ones are given up.
        per_caption_s: time for each clip of a unit that asks a caption model, in seconds, once the model is loaded.
        memory_gib: memory beyond that of an idle process, in GiB (Linux only; not with a local caption model).
        copies_gib: size of the copies of remote videos that are kept during a run, in GiB.
        attempts: starts of a unit that ended its process, before it is recorded as failed.
        max_bad: stop if a larger share of at least `min_judged` sources is bad, as after mounting the wrong disk.
    """

    base_s: float = 60.0
    per_video_s: float = 3.0
    min_bytes_per_s: float = 500_000.0
    per_caption_s: float = 300.0
    memory_gib: float = 2.0
    copies_gib: float = 20.0
    attempts: int = 3
    max_bad: float = 0.2
    min_judged: int = 100

    def __post_init__(self) -> None:
        _check(
            "limits",
            self,
            {"base_s": 1, "per_video_s": 0, "min_bytes_per_s": 1, "per_caption_s": 0, "memory_gib": 0}
            | {"copies_gib": 0, "attempts": 1, "max_bad": 0, "min_judged": 1},
        )


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """A whole preparation.

    Attributes:
        seed: order of the clips in the shards, and the choice of the validation split.
        workers: processes; 0 means one for each core.
    """

    sources: SourceLimits = field(default_factory=SourceLimits)
    scan: ScanConfig = field(default_factory=ScanConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    caption: CaptionConfig = field(default_factory=CaptionConfig)
    shard: ShardConfig = field(default_factory=ShardConfig)
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers is {self.workers}, expected 0 or more")


def _check(group: str, settings: Any, least: Mapping[str, float]) -> None:
    """Check that settings of a group are numbers of at least some size, each."""
    for name, minimum in least.items():
        value = getattr(settings, name)
        if not minimum <= value < math.inf:
            raise ValueError(f"{group}.{name} is {value}, expected a number of at least {minimum:g}")


def with_absolute_paths(config: PrepareConfig) -> PrepareConfig:
    """Return the settings with whole paths, because processes of other machines start in other folders."""
    caption, score = config.caption, config.score
    if caption.model and not caption.url:
        caption = replace(caption, model=str(Path(caption.model).expanduser().resolve()))
    if score.weights:
        score = replace(score, weights=str(Path(score.weights).expanduser().resolve()))
    return replace(config, caption=caption, score=score)


NO_INFLUENCE = ("limits", "workers")
"""Groups that do not change any result."""


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that depend on the JSON of all parts."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def result_settings(config: PrepareConfig) -> dict[str, Any]:
    """Return the settings that influence the result, as JSON data."""
    return {name: value for name, value in asdict(config).items() if name not in NO_INFLUENCE}
