"""Recipes that train on clips from files: the paper's stages (§3.1, §3.2, table of stages), and fine-tuning.

The paper states resolutions, iterations and batch sizes. Values that it leaves open are named constants here; the
reasons are in `docs/recipes.md`. A batch is the `accumulate` passes of a step, over all processes. In the joint
stages, one pass in eight is of images, with eight times as many samples, so a step at batch 256 sees on average 224
clips and 256 images. Every recipe starts from a pipeline (`init`) and reads its clips from `task.data.sources`.
"""

from __future__ import annotations

from dataclasses import replace

from videocrafter.data.clip_sampling import ClipSampling
from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.training.config import GuardConfig, OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.video.lora import LoraTraining
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig, SampleConfig

PAPER_FRAMES = 16
# Our choices where the paper gives no value; see docs/recipes.md, "What the paper leaves open".
IMAGE_SHARE = 1 / 8
TEXT_DROPOUT = 0.1
FPS_RANGE = (4.0, 32.0)
EMA_DECAY = 0.9999
LEARNING_RATE = 5e-5
SIGNAL_SCALE_1024 = 0.3  # the official model's value at this size


def t2v_256() -> RecipeConfig:
    """The paper's first stage: 256 × 256, 80K iterations at batch 256, from an image model."""
    task = ClipDiffusionTaskConfig(
        data=_joint_data(height=256, width=256, batch_size=4),
        text_dropout=TEXT_DROPOUT,
    )
    stage = StageConfig(
        name="t2v-256",
        task=task,
        num_steps=80_000,
        optimizer=_paper_optimizer(accumulate=64),
        ema_decay=EMA_DECAY,
        guard=GuardConfig(spike=20.0),
        log_every=20,
        validate_every=1000,
        sample_every=2000,
        checkpoint_every=1000,
        checkpoint_seconds=1800,
        keep_every=10_000,
    )
    return RecipeConfig(name="t2v-256", stages=(stage,))


def t2v_512() -> RecipeConfig:
    """The paper's second stage: 512 × 320, 136K iterations at batch 128, from the first."""
    stage = t2v_256().stages[0]
    return RecipeConfig(
        name="t2v-512",
        stages=(
            _resized(stage, name="t2v-512", height=320, width=512, batch_size=2, accumulate=64, num_steps=136_000),
        ),
    )


def t2v_1024() -> RecipeConfig:
    """The paper's third stage: 1024 × 576, 45K iterations at batch 64, from the second."""
    stage = _resized(
        t2v_256().stages[0],
        name="t2v-1024",
        height=576,
        width=1024,
        batch_size=1,
        accumulate=64,
        num_steps=45_000,
    )
    assert isinstance(stage.task, ClipDiffusionTaskConfig)
    task = replace(stage.task, signal_scale=SIGNAL_SCALE_1024)
    return RecipeConfig(name="t2v-1024", stages=(replace(stage, task=task),))


def i2v_512() -> RecipeConfig:
    """Image to video at 512 × 320, in the paper's two phases, from a text-to-video model of that size.

    First train the projector and W'k, W'v. Then freeze the mappings of text and image, and train the video model.
    """
    stage = t2v_512().stages[0]
    assert isinstance(stage.task, ClipDiffusionTaskConfig)
    mapping_task = replace(
        stage.task,
        phase="image_mapping",
        # Keep the starting model's schedule: the video network is frozen in this phase.
        signal_scale=None,
        text_dropout=0.05,
        image_dropout=0.05,
        both_dropout=0.05,
    )
    mapping = replace(
        stage,
        name="mapping",
        task=mapping_task,
        num_steps=30_000,
        optimizer=replace(stage.optimizer, lr=1e-4),
    )
    video = replace(
        stage,
        name="video",
        task=replace(mapping_task, phase="image_to_video"),
        num_steps=50_000,
        optimizer=replace(stage.optimizer, lr=LEARNING_RATE),
    )
    return RecipeConfig(name="i2v-512", stages=(mapping, video))


def finetune() -> RecipeConfig:
    """Fine-tune all parameters of a text-to-video model on your own clips, at the model's size."""
    return RecipeConfig(name="finetune", stages=(_adaptation("finetune", num_steps=5000, lr=1e-5),))


def temporal_only() -> RecipeConfig:
    """Fine-tune only the temporal layers: new motion, unchanged appearance."""
    stage = _adaptation("temporal-only", num_steps=5000, lr=5e-5)
    assert isinstance(stage.task, ClipDiffusionTaskConfig)
    task = replace(stage.task, phase="temporal_only")
    return RecipeConfig(name="temporal-only", stages=(replace(stage, task=task),))


def lora() -> RecipeConfig:
    """Train a LoRA on a folder of clips: a subject, a style or a motion, in at most an hour on one GPU."""
    stage = _adaptation("lora", num_steps=1000, lr=1e-4)
    assert isinstance(stage.task, ClipDiffusionTaskConfig)
    task = replace(stage.task, lora=LoraTraining())
    optimizer = replace(stage.optimizer, accumulate=1, warmup_steps=50, decay="constant")
    return RecipeConfig(name="lora", stages=(replace(stage, task=task, optimizer=optimizer, ema_decay=0.99),))


def overfit_one_clip() -> RecipeConfig:
    """Overfit the first clip of the data, to check in five minutes whether a setup learns at all.

    The loss must drop sharply and the sample must reproduce the clip; otherwise a real run will not learn either.
    """
    stage = _adaptation("overfit", num_steps=300, lr=1e-4)
    assert isinstance(stage.task, ClipDiffusionTaskConfig)
    data = stage.task.data
    sampling = replace(data.cutting.sampling, fps_range=None, start="first")
    task = replace(
        stage.task,
        data=replace(
            data,
            one_clip=True,
            shuffle=False,
            num_workers=1,
            cutting=replace(data.cutting, crop="center", sampling=sampling),
        ),
        text_dropout=0.0,
        samples=SampleConfig(count=1, guidance_scale=1.0),
    )
    optimizer = replace(stage.optimizer, accumulate=1, warmup_steps=20, decay="constant")
    stage = replace(
        stage, task=task, optimizer=optimizer, ema_decay=0.9, log_every=10, validate_every=50, sample_every=100
    )
    return RecipeConfig(name="overfit-one-clip", stages=(stage,))


def clip_sampling() -> ClipSampling:
    """Return how clips are cut at the start's own number of frames."""
    return ClipSampling(fps_range=FPS_RANGE)


def _joint_data(*, height: int, width: int, batch_size: int) -> LoaderConfig:
    return LoaderConfig(
        batch_size=batch_size,
        image_batch_size=8 * batch_size,
        image_share=IMAGE_SHARE,
        num_workers=4,
        cutting=CuttingConfig(
            sampling=ClipSampling(lengths=(PAPER_FRAMES,), fps_range=FPS_RANGE), height=height, width=width
        ),
    )


def _paper_optimizer(accumulate: int) -> OptimizerConfig:
    return OptimizerConfig(
        lr=LEARNING_RATE,
        betas=(0.9, 0.999),
        weight_decay=0.01,
        warmup_steps=1000,
        decay="constant",
        grad_clip=1.0,
        accumulate=accumulate,
    )


def _resized(
    stage: StageConfig, *, name: str, height: int, width: int, batch_size: int, accumulate: int, num_steps: int
) -> StageConfig:
    assert isinstance(stage.task, ClipDiffusionTaskConfig)
    task = replace(stage.task, data=_joint_data(height=height, width=width, batch_size=batch_size))
    return replace(stage, name=name, task=task, num_steps=num_steps, optimizer=_paper_optimizer(accumulate))


def _adaptation(name: str, *, num_steps: int, lr: float) -> StageConfig:
    """Return what the fine-tuning recipes share: the model's own size, and frequent validation and samples."""
    data = LoaderConfig(cutting=CuttingConfig(sampling=clip_sampling()))
    optimizer = replace(_paper_optimizer(accumulate=4), lr=lr, warmup_steps=100)
    return StageConfig(
        name=name,
        task=ClipDiffusionTaskConfig(data=data, frames_like_start=True, text_dropout=TEXT_DROPOUT),
        num_steps=num_steps,
        optimizer=optimizer,
        ema_decay=0.999,
        log_every=10,
        validate_every=250,
        sample_every=250,
        checkpoint_every=250,
    )
