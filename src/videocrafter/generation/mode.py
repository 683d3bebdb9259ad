"""Choose how a video is made: by the pipeline itself or by one derived from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from videocrafter.generation.inputs import Inputs
from videocrafter.generation.request import GenerateOptions

if TYPE_CHECKING:
    from videocrafter.pipelines.derived_pipeline import DerivedPipeline
    from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

    Pipeline = TextToVideoPipeline | ImageToVideoPipeline
    Mode = Pipeline | DerivedPipeline

DEFAULT_STRENGTH = 0.6


def choose_mode(pipeline: Pipeline, options: GenerateOptions, inputs: Inputs) -> Mode:
    """Return the pipeline, or the derived pipeline that the options ask for; both are used in the same way.

    More frames than in training are made in windows. Raises ValueError for settings that the mode does not allow.
    """
    from videocrafter.pipelines.continuation import Continuation
    from videocrafter.pipelines.interpolation import Interpolation
    from videocrafter.pipelines.long_video import LongVideo
    from videocrafter.pipelines.looping import LoopedVideo
    from videocrafter.pipelines.video_to_video import VideoToVideo

    window, overlap = options.window, options.window_overlap
    if options.continued is not None and inputs.clip is not None:
        return Continuation(pipeline, inputs.clip.frames, window=window)
    if options.video is not None and inputs.clip is not None:
        strength = DEFAULT_STRENGTH if options.strength is None else options.strength
        return VideoToVideo(pipeline, inputs.clip.frames, strength, window=window, overlap=overlap)
    if inputs.image_end is not None and options.rows[0].image is not None:
        first = inputs.image(options.rows[0].image)
        return Interpolation(pipeline, first, inputs.image_end, window=window, overlap=overlap)
    if options.loop:
        return LoopedVideo(pipeline, window=window, overlap=overlap)
    trained = pipeline.generation_defaults.num_frames
    if window is not None or overlap is not None or (options.num_frames or 0) > trained:
        return LongVideo(pipeline, window=window, overlap=overlap)
    return pipeline
