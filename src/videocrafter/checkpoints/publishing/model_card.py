"""Write the model card of published weights: description, usage, data, recipe, licence and limitations.

The card states only what the files contain and what the author adds. Unknown facts are stated as unknown.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from videocrafter.checkpoints.pipeline_code import OPENING_ARGUMENTS
from videocrafter.checkpoints.publishing.licences import Licence
from videocrafter.checkpoints.publishing.training_record import RECORD_FILE, StageRecord, TrainingRecord
from videocrafter.presets import PRESETS, TASK_NAMES, ModelPreset, Task

CARD_FILE = "README.md"
SAMPLES_FILE = "samples.png"
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|<(?:img|video|source)\b[^>]*\bsrc=[\"']([^\"']+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class LoraFacts:
    """Facts about a LoRA: the rank of each layer that it changes."""

    ranks: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """The content of a model card.

    Attributes:
        name: title of the card.
        repo_id: `USER/NAME` on the hub; None for a folder without a repository.
        licence: licence of the weights.
        task: task of the model; None for a LoRA whose base model is unknown.
        lora: facts about a LoRA; None for a whole pipeline.
        data: the author's description of the training data; may be empty.
        base_model: a preset's name or `USER/NAME` given by the author; None takes it from the record.
        record: how the weights were trained; None if unknown.
        settings: recommended settings, as in `GenerationDefaults`.
        knowledge: the vocabulary of a closed world, by kind.
        num_parameters: number of parameters of each network.
        has_samples: whether `SAMPLES_FILE` is next to the card.
        licence_file: name of the licence text next to the card, or None.
        version: version of the package that publishes the weights.
    """

    name: str
    repo_id: str | None
    licence: Licence
    task: Task | None
    lora: LoraFacts | None = None
    data: str = ""
    base_model: str | None = None
    record: TrainingRecord | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    knowledge: Mapping[str, Sequence[str]] = field(default_factory=dict)
    num_parameters: Mapping[str, int] = field(default_factory=dict)
    has_samples: bool = False
    licence_file: str | None = None
    version: str

    @property
    def base_preset(self) -> ModelPreset | None:
        """Preset of the model that the weights were trained from or that the LoRA adapts; None if unknown."""
        if self.base_model is not None:
            named = (preset for preset in PRESETS.values() if self.base_model in (preset.name, preset.hub_id))
            return next(named, None)
        return self.record.base if self.record is not None else None

    @property
    def base_id(self) -> str | None:
        """Name of the base model on the hub; None if it is unknown or not on the hub."""
        if self.base_preset is not None:
            return self.base_preset.hub_id
        return self.base_model


def make_card(facts: CardFacts) -> str:
    """Return the text of `README.md`: front matter for the hub, then the card."""
    sections = (
        ("Description", _description(facts)),
        ("Usage", _usage(facts)),
        ("Training data", _data(facts)),
        ("Training recipe", _recipe(facts)),
        ("Licence", _licence(facts)),
        ("Limitations", _limitations(facts)),
    )
    samples = f"![Samples generated during training]({SAMPLES_FILE})\n\n" if facts.has_samples else ""
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections)
    return f"---\n{_front_matter(facts)}\n---\n\n# {_plain(facts.name)}\n\n{samples}{body}\n"


def card_licence(path: Path) -> str:
    """Return the licence in the front matter of an existing card.

    Raises:
        ValueError: the front matter cannot be read, or has no licence.
    """
    from huggingface_hub import ModelCard

    try:
        card = ModelCard(path.read_text(encoding="utf-8-sig"))
        licence = card.data.to_dict().get("license")
    except Exception as error:  # noqa: BLE001 (the hub's parser raises YAML's errors, ValueError and others)
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"the front matter of {path} cannot be read ({reason}); fix it, or remove the card"
        ) from None
    if not isinstance(licence, str | list) or not licence:
        raise ValueError(f"{path} has no licence; add a line such as `license: apache-2.0` to its front matter")
    return licence if isinstance(licence, str) else ", ".join(map(str, licence))


def linked_files(card: str) -> tuple[str, ...]:
    """Return the relative paths that a card shows or links to, without URLs and anchors."""
    links = (unquote(first or second) for first, second in _LINK.findall(card))
    paths = (link.split("#")[0].split("?")[0].removeprefix("./") for link in links if "://" not in link)
    return tuple(dict.fromkeys(path for path in paths if path and not path.startswith(("/", "#", "mailto:"))))


def _front_matter(facts: CardFacts) -> str:
    from huggingface_hub import ModelCardData

    tag = _task_tag(facts)
    relation = "adapter" if facts.lora is not None else "finetune"
    datasets = list(facts.record.hub_datasets) if facts.record is not None else []
    data = ModelCardData(
        license=facts.licence.identifier,
        license_name=facts.licence.hub_name,
        license_link=facts.licence_file if facts.licence.name is not None else None,
        library_name="diffusers",
        pipeline_tag=tag,
        base_model=facts.base_id,
        datasets=datasets or None,
        tags=["videocrafter", *([tag] if tag else []), *(["lora"] if facts.lora is not None else [])],
        base_model_relation=None if facts.base_id is None else relation,
    )
    return data.to_yaml()


def _task_tag(facts: CardFacts) -> str | None:
    return TASK_NAMES[facts.task].replace(" ", "-") if facts.task is not None else None


def _description(facts: CardFacts) -> str:
    kind = _task_tag(facts) or "video"
    trained = facts.record.name if facts.record is not None else None
    by_recipe = f", trained with the recipe {_code(trained)}" if trained else ""
    system = "based on VideoCrafter1 ([arXiv 2310.19512](https://arxiv.org/abs/2310.19512))"
    if facts.lora is None:
        article = "An" if facts.task == "i2v" else "A"
        lines = [f"{article} {kind} diffusion model {system}, for the Python package `videocrafter`{by_recipe}."]
    else:
        lines = [f"A LoRA for {kind} diffusion models {system}, for the Python package `videocrafter`{by_recipe}."]
        if facts.lora.ranks:
            ranks = " to ".join(str(rank) for rank in sorted({min(facts.lora.ranks), max(facts.lora.ranks)}))
            lines.append(f"It changes {_several(len(facts.lora.ranks), 'layer')}, with rank {ranks}.")
    lines.append(_base(facts))
    if facts.num_parameters:
        networks = ", ".join(f"{_code(part)} {_amount(count)}" for part, count in facts.num_parameters.items())
        lines.append(f"Parameters: {networks}.")
    if facts.settings:
        lines.append(f"Recommended settings: {_settings(facts.settings)}.")
    return "\n\n".join(line for line in lines if line)


def _base(facts: CardFacts) -> str:
    start = facts.record.start if facts.record is not None else None
    verb = "It adapts" if facts.lora is not None else "It was initialised from"
    if facts.base_id is not None:
        return f"{verb} [{_plain(facts.base_id)}](https://huggingface.co/{facts.base_id})."
    if facts.base_preset is not None:
        return f"{verb} {_code(facts.base_preset.name)}, {facts.base_preset.description}."
    before = facts.record.before.name if facts.record is not None and facts.record.before is not None else None
    if before is not None:
        return f"{verb} the weights of the recipe {_code(before)}."
    if start is not None:
        return f"{verb} the weights {_code(start)}, about which nothing more is known."
    return "Its base model is unknown." if facts.lora is not None else ""


def _usage(facts: CardFacts) -> str:
    return (
        f"On the command line:\n\n```sh\n{_shell_lines(facts)}\n```\n\n"
        f"From Python:\n\n```python\n{_python_lines(facts)}\n```"
        f"{_diffusers_lines(facts)}"
    )


def _diffusers_lines(facts: CardFacts) -> str:
    """Say how diffusers' own class opens a pipeline."""
    if facts.lora is not None:
        return ""
    place = json.dumps(facts.repo_id or _folder_name(facts))
    return (
        "\n\nWith diffusers' own class, where `videocrafter` is installed (the file `pipeline.py` imports it):\n\n"
        "```python\nfrom diffusers import DiffusionPipeline\n\n"
        f"pipeline = DiffusionPipeline.from_pretrained({place}, {OPENING_ARGUMENTS})\n```"
    )


def _shell_lines(facts: CardFacts) -> str:
    folder = shlex.quote(_folder_name(facts))
    model = f"--model {folder}" if facts.lora is None else f"--model {_base_to_load(facts)} --lora {folder}"
    image = " --image image.png" if facts.task == "i2v" else ""
    fetch = [f"hf download {facts.repo_id} --local-dir {folder}"] if facts.repo_id else []
    return "\n".join([*fetch, f'videocrafter generate "{_example_prompt(facts)}"{image} {model} -o video.mp4'])


def _python_lines(facts: CardFacts) -> str:
    place = f"snapshot_download({json.dumps(facts.repo_id)})" if facts.repo_id else json.dumps(_folder_name(facts))
    image = 'read_image("image.png"), ' if facts.task == "i2v" else ""
    lines = ["from huggingface_hub import snapshot_download"] if facts.repo_id else []
    lines += ["from videocrafter.media.image_file import read_image"] if image else []
    lines += ["from videocrafter.media.video_file import write_video"]
    lines += ["from videocrafter.pipelines.loading import load_pipeline", ""]
    if facts.lora is None:
        lines.append(f"pipeline = load_pipeline({place})")
    else:
        lines.append(f"pipeline = load_pipeline({json.dumps(_base_to_load(facts))})")
        lines.append(f"pipeline.load_lora_weights({place})")
    lines.append(f'video = pipeline({image}"{_example_prompt(facts)}", seeds=1).frames[0]')
    lines.append(f'write_video("video.mp4", video, playback_fps={_number(facts.settings.get("fps")) or 8})')
    return "\n".join(lines)


def _folder_name(facts: CardFacts) -> str:
    return " ".join((facts.repo_id.rpartition("/")[2] if facts.repo_id else facts.name).split())


def _base_to_load(facts: CardFacts) -> str:
    return facts.base_preset.name if facts.base_preset is not None else "path/to/the/base-model"


def _data(facts: CardFacts) -> str:
    paragraphs = [facts.data.strip()] if facts.data.strip() else []
    record = facts.record
    if record is not None and record.sources:
        listed = "\n".join(f"- {_plain(source)}" for source in record.sources)
        paragraphs.append(f"Data sources in the recipe:\n\n{listed}")
    if record is not None and record.before is not None and record.before.sources:
        listed = "\n".join(f"- {_plain(source)}" for source in record.before.sources)
        paragraphs.append(f"Data sources of the weights that it was initialised from:\n\n{listed}")
    elif facts.base_preset is not None or (record is not None and record.start is not None):
        paragraphs.append("The training data of its base model comes in addition; see the base model.")
    if not facts.data.strip() and not (record is not None and record.sources):
        paragraphs.insert(0, "Unknown: the recipe names no data, and the author gave no description.")
    return "\n\n".join(paragraphs)


def _recipe(facts: CardFacts) -> str:
    record = facts.record
    published = f"Published with videocrafter {facts.version}."
    if record is None:
        return f"Unknown: the weights came without a training record. {published}"
    lines = []
    if record.stages:
        lines.append(_stage_table(record.stages))
    known = f"Recipe: {_code(record.name)}. " if record.name else ""
    seed = record.recipe.get("seed")
    known += f"Seed: {seed}. " if isinstance(seed, int) else ""
    used = ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in record.versions.items())
    trained = f"Trained with {used}. " if used else "The version used for training is unknown. "
    lines.append(f"{known}{trained}{published} The full configuration is in `{RECORD_FILE}`.")
    return "\n\n".join(lines)


def _stage_table(stages: Sequence[StageRecord]) -> str:
    rows = ["| stage | steps | batch | learning rate | resolution |", "|---|---:|---|---|---|"]
    for stage in stages:
        steps = "unknown" if stage.steps is None else f"{stage.steps:,}"
        if not stage.is_finished:
            steps += f" of {stage.planned_steps:,}"
        cells = (_code(stage.name), steps, _batch(stage), _learning_rate(stage), _resolution(stage))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _batch(stage: StageRecord) -> str:
    size, images, passes = (stage.number(name) for name in ("batch_size", "image_batch_size", "accumulate"))
    if size is None:
        return "unknown"
    text = _several(size, "clip")
    if images is not None and stage.number("image_share") != 0:
        text += f" or {_several(images, 'image')}"
    return f"{passes} × ({text})" if passes is not None and passes > 1 else text


def _learning_rate(stage: StageRecord) -> str:
    rate = stage.number("lr")
    optimizer = stage.settings.get("optimizer")
    optimizer = optimizer if isinstance(optimizer, Mapping) else {}
    words = [f"{rate:g}" if rate is not None else "unknown"]
    words += [_plain(str(optimizer[name])) for name in ("name", "decay") if isinstance(optimizer.get(name), str)]
    return ", ".join(words)


def _resolution(stage: StageRecord) -> str:
    height, width, frames = (stage.number(name) for name in ("height", "width", "num_frames"))
    if stage.find("frames_like_start"):
        return "same as the base model"
    if height is None or width is None:
        return "unknown"
    lengths = [frames] if frames is not None else stage.find("lengths")
    known = lengths if isinstance(lengths, list) and lengths and all(map(_number, lengths)) else []
    return f"{width} × {height}" + (f", {' or '.join(map(str, known))} frames" if known else "")


def _licence(facts: CardFacts) -> str:
    where = f" ([text]({facts.licence_file}))" if facts.licence_file is not None else ""
    lines = [f"Licence of the weights, as stated by their publisher: **{_plain(str(facts.licence))}**{where}."]
    base = facts.base_preset
    if base is not None:
        lines.append(f"Licence of the base model {_code(base.name)}: {base.weights_licence}.")
    elif facts.base_id is not None:
        lines.append("The licence of the base model also applies.")
    return "\n\n".join(lines)


def _limitations(facts: CardFacts) -> str:
    points = []
    record = facts.record
    if record is not None and record.stages and not record.stages[-1].is_finished:
        last = record.stages[-1]
        points.append(
            f"This is an intermediate checkpoint: stage {_code(last.name)} was at step {last.steps:,} of"
            f" {last.planned_steps:,}."
        )
    if facts.lora is not None:
        points.append("It only works together with its base model, whose limitations remain.")
    elif facts.settings:
        points.append(
            "It was trained for the recommended size, number of frames and fps; other values may give worse results."
        )
    for kind, words in facts.knowledge.items():
        if words:
            points.append(f"It supports only these {_plain(str(kind))}: {_plain(', '.join(map(str, words)))}.")
    points.append("This card was generated from the files of the model; it contains no measured quality.")
    points.append(
        "Prompts and videos are not filtered. The model reproduces the content and the biases of its training data."
    )
    return "\n".join(f"- {point}" for point in points)


def _example_prompt(facts: CardFacts) -> str:
    subjects = [str(one) for one in facts.knowledge.get("subjects", ()) if re.fullmatch(r"[\w -]+", str(one))]
    if not subjects:
        return "it moves slowly" if facts.task == "i2v" else "a black swan swims on the pond"
    return f"{'an' if subjects[0][0].lower() in 'aeiou' else 'a'} {subjects[0]}"


def _settings(settings: Mapping[str, Any]) -> str:
    width, height, frames, fps, steps, guidance = (
        _number(settings.get(name))
        for name in ("width", "height", "num_frames", "fps", "num_inference_steps", "guidance_scale")
    )
    known = [
        f"{width} × {height} pixels" if width and height else "",
        f"{frames} frames" if frames else "",
        f"fps {fps}" if fps else "",
        f"{steps} sampling steps" if steps else "",
        f"guidance scale {guidance}" if guidance else "",
    ]
    speeds = settings.get("fps_range")
    if isinstance(speeds, list | tuple) and len(speeds) == 2:
        known.append(f"trained with fps {_number(speeds[0])} to {_number(speeds[1])}")
    return ", ".join(part for part in known if part)


def _number(value: Any) -> str | None:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else None


def _several(count: float, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _amount(count: int) -> str:
    return f"{count / 1e9:.2f} billion" if count >= 1e9 else f"{count / 1e6:.2f} million"


def _plain(text: str) -> str:
    """Escape text for Markdown, on one line and inside a table."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Format a name as code, on one line and inside a table."""
    inner = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{inner or ' '}`"
