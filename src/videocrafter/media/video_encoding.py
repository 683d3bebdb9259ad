"""Frames to the bytes of an mp4, a gif or a PNG, with a comment stored inside.

Shapes: `T` frames, `H` rows, `W` columns, 3 channels (red, green, blue), uint8.
"""

import io
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from videocrafter.media.errors import MediaError

# The loss from coding then drowns in that from halved chroma, and a small video still takes few kilobytes.
# Without cpu-independent, x264 (165) decides by SIMD code for macroblock trees whose answer changes with what lies in
# memory, and other SIMD code elsewhere: the same frames then give other bytes from time to time.
_H264_OPTIONS = {"crf": "12", "preset": "slow", "x264-params": "cpu-independent=1"}
# A picture is cut into as many slices, so a number that follows the processors gives other bytes elsewhere.
_H264_THREADS = 4
_BT709 = 1  # the code point of BT.709 for matrix, primaries and transfer in H.264 (ITU-T H.273)
_LIMITED_RANGE = 1

# Viewers show a gif frame that asks for less than 2/100 s for 10/100 s instead.
MAX_GIF_FPS = 50.0


def encode_mp4(frames: Iterable[np.ndarray], playback_fps: float, comment: str | None = None) -> bytes:
    """Encode frames `[H, W, 3]` uint8 as H.264 in an mp4 that every player shows (yuv420p, BT.709).

    The same frames give the same bytes, at any time and on any number of processors. Takes frame after frame, so they
    need not exist all at once; there must be one at least. An odd height or
    width is padded by one repeated row or column, because yuv420p stores colour for blocks of 2 × 2 pixels.
    """
    buffer = io.BytesIO()
    height = width = 0
    try:
        with av.open(buffer, "w", format="mp4") as container:
            if comment is not None:
                container.metadata["comment"] = comment
            rate = Fraction(playback_fps).limit_denominator(1001)  # 1001: the broadcast rates such as 24000/1001
            stream = container.add_stream("libx264", rate=rate, options=_H264_OPTIONS)
            stream.pix_fmt = "yuv420p"
            codec = stream.codec_context
            codec.thread_count = _H264_THREADS
            codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
            codec.color_range = _LIMITED_RANGE
            for pixels in frames:
                if not height:
                    height, width = pixels.shape[0] + pixels.shape[0] % 2, pixels.shape[1] + pixels.shape[1] % 2
                    stream.height, stream.width = height, width
                padding = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
                padded = np.ascontiguousarray(np.pad(pixels, padding, mode="edge"))
                frame = av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                    # Averaging the colour of each 2 × 2 block is closest to the original for small pictures.
                    interpolation=Interpolation.AREA,
                )
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise MediaError(
            f"H.264 cannot hold frames of {width}x{height} at {playback_fps:g} frames per "
            f"second ({error}); choose another size, or a .gif or a folder of PNGs"
        ) from error
    return buffer.getvalue()


def encode_gif(frames: np.ndarray, playback_fps: float, comment: bytes | None = None) -> bytes:
    """Encode frames `[T, H, W, 3]` uint8 as an endless gif with a palette of 256 colours for each frame.

    A gif counts time in hundredths of a second: each frame starts at the nearest one, so that the whole clip
    keeps its length at rates that do not divide 100.

    Raises:
        MediaError: `playback_fps` is above `MAX_GIF_FPS`.
    """
    if playback_fps > MAX_GIF_FPS:
        raise MediaError(
            f"a gif plays at most {MAX_GIF_FPS:g} frames per second, not {playback_fps:g}; "
            "lower the playback rate or write an .mp4"
        )
    starts = [round(100 * index / playback_fps) for index in range(len(frames) + 1)]
    options = {"loop": "0", "final_delay": str(starts[-1] - starts[-2])}
    buffer = io.BytesIO()
    # Not Pillow's own gif writer: it drops a frame that equals the one before.
    with av.open(buffer, "w", format="gif", options=options) as container:
        stream = container.add_stream("gif", rate=100)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "pal8"
        for start, pixels in zip(starts[:-1], frames, strict=True):
            frame = av.VideoFrame.from_ndarray(_indexed(pixels), format="pal8")  # type: ignore[arg-type]  # unknown to its stubs
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = buffer.getvalue()
    if comment is None:
        return data
    # A comment extension (21 FE, sub-blocks of up to 255 bytes, 0) may stand right before the trailer (3B).
    blocks = [comment[start : start + 255] for start in range(0, len(comment), 255)]
    extension = b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\x00"
    return data[:-1] + extension + data[-1:]


def encode_png(image: np.ndarray, text: dict[str, str] | None = None) -> bytes:
    """Encode an image `[H, W, 3]` uint8 losslessly; `text` becomes text chunks by keyword."""
    info = PngInfo()
    for keyword, value in (text or {}).items():
        info.add_text(keyword, value)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def _indexed(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce `[H, W, 3]` to palette indices `[H, W]` and a palette `[256, 4]` (alpha, red, green, blue)."""
    image = Image.fromarray(pixels).quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    colors = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0] = 255
    palette[: len(colors), 1:] = colors
    return np.array(image), palette
