"""Videos as users have them: any codec, pixel format, rotation and timing, with sound or with sound only."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.unit.media.clips import moving_disc


def encode_video(
    path: Path,
    frames: np.ndarray | None = None,
    fps: float = 8,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    matrix: tuple[int, int, int, int] | None = None,
    keyframe_every: int = 8,
    ticks: Sequence[int] | None = None,
    sound_s: float = 0.0,
    pixel_aspect: Fraction | None = None,
    start_s: float = 0.0,
    colours: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write frames (uint8 `[T, H, W, 3]` or with alpha) as a video.

    `ticks` of 1/1000 s make its rate variable. `matrix` is how an mp4 is displayed: a, b, c and d of x' = a x + c y
    and y' = b x + d y. `start_s` is the time stamp of the first frame. `colours` are attributes of the codec.
    """
    frames = moving_disc(16, 48, 64) if frames is None else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream(codec, rate=rate, options={"g": str(keyframe_every), **(options or {})})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for attribute, value in (colours or {}).items():
            setattr(stream.codec_context, attribute, value)
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        elif start_s:
            stream.codec_context.time_base = 1 / rate
        sound = container.add_stream("aac", rate=16000) if sound_s else None
        for index, pixels in enumerate(frames):
            layout = "rgba" if pixels.shape[-1] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout).reformat(format=pix_fmt)
            if ticks is not None:
                frame.pts, frame.time_base = ticks[index], Fraction(1, 1000)
            elif start_s:
                frame.pts, frame.time_base = index + round(start_s * rate), 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            for packet in _silence(sound, sound_s):
                container.mux(packet)
    if matrix is not None:
        _display_by(path, matrix)
    return path


def _display_by(path: Path, matrix: tuple[int, int, int, int]) -> None:
    data = bytearray(path.read_bytes())
    # The matrix of the track header, 40 bytes into its content of version 0.
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    values = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data)


def cut_without_encoding(source: Path, target: Path, start_s: float, end_s: float) -> Path:
    """Copy packets from the keyframe before a time on; an mp4 hides the frames before that time."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copied = written.add_stream_from_template(stream)
        assert stream.time_base is not None
        start = round(start_s / stream.time_base)
        read.seek(start, stream=stream)
        for packet in read.demux(stream):
            if packet.pts is None or packet.dts is None or packet.pts * stream.time_base >= end_s:
                continue
            packet.pts -= start
            packet.dts -= start
            packet.stream = copied
            written.mux(packet)
    return target


def encode_sound(path: Path, seconds: float = 1.0) -> Path:
    """Write a file that contains only sound."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for packet in _silence(stream, seconds):
            container.mux(packet)
    return path


def _silence(stream: av.AudioStream, seconds: float) -> list[av.Packet]:
    packets = []
    for start in range(0, int(seconds * 16000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        packets += stream.encode(frame)
    return packets + stream.encode(None)
