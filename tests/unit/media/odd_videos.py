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
    rotation: int = 0,
    keyframe_every: int = 8,
    ticks: Sequence[int] | None = None,
    sound_s: float = 0.0,
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write frames (uint8 `[T, H, W, 3]` or with alpha) as a video; `ticks` of 1/1000 s make its rate variable."""
    frames = moving_disc(16, 48, 64) if frames is None else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream(codec, rate=rate, options={"g": str(keyframe_every), **(options or {})})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=16000) if sound_s else None
        for index, pixels in enumerate(frames):
            layout = "rgba" if pixels.shape[-1] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout).reformat(format=pix_fmt)
            if ticks is not None:
                frame.pts, frame.time_base = ticks[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            for packet in _silence(sound, sound_s):
                container.mux(packet)
    if rotation:
        _rotate(path, rotation)
    return path


def _rotate(path: Path, degrees: int) -> None:
    """Mark an mp4 to be rotated counterclockwise for display, as phones do."""
    data = bytearray(path.read_bytes())
    # The matrix of the track header, 40 bytes into its content of version 0.
    matrix = data.index(b"tkhd") + 4 + 40
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[degrees // 90 % 4]
    values = (cosine << 16, -sine << 16, 0, sine << 16, cosine << 16, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data)


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
