"""Encode frames as the bytes of an mp4, webm, gif or PNG, with a comment inside.

Shapes: `T` frames, `H` rows, `W` columns, 3 channels (red, green, blue), uint8.
"""

import io
import os
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from videocrafter.media.errors import MediaError
from videocrafter.media.thread_priority import without_real_time_priority

CODECS: Mapping[str, tuple[str, ...]] = {".mp4": ("h264", "av1"), ".webm": ("vp9", "av1")}
"""Codecs that each kind of file may contain; the first one is the default."""


@dataclass(frozen=True, kw_only=True)
class _Codec:
    title: str
    encoder: str
    options: Mapping[str, str]
    constant_quality: bool = False  # the encoder needs a bit rate of 0 to obey the quality alone
    even_sizes: bool = False
    min_side: int = 1


# At these qualities, coding loses less than the halved chroma does, and a small video still takes few kilobytes.
_CODECS = {
    "h264": _Codec(
        title="H.264",
        encoder="libx264",
        # Without cpu-independent, x264 (165) decides by SIMD code for macroblock trees whose result depends on what
        # else is in memory, and uses other SIMD code on other processors: the bytes then differ from time to time.
        options={"crf": "12", "preset": "slow", "x264-params": "cpu-independent=1"},
        even_sizes=True,
    ),
    "vp9": _Codec(
        title="VP9",
        encoder="libvpx-vp9",
        options={"crf": "12", "deadline": "good", "cpu-used": "3"},
        constant_quality=True,
    ),
    "av1": _Codec(
        title="AV1",
        encoder="libsvtav1",
        options={"crf": "10", "preset": "6"},
        constant_quality=True,
        min_side=32,  # SVT-AV1 4.1 never returns for some frames of fewer rows
    ),
}
# x264 cuts a picture into as many slices, so a number that follows the processors would change the bytes.
_THREADS = 4
_BT709 = 1  # code point of BT.709 for matrix, primaries and transfer (ITU-T H.273)
_LIMITED_RANGE = 1

# Viewers show a gif frame that asks for less than 2/100 s for 10/100 s instead.
MAX_GIF_FPS = 50.0


def choose_codec(suffix: str, codec: str | None) -> str | None:
    """Return the codec of a file with this suffix, having checked that it can be encoded.

    Args:
        suffix: In lower case, with its dot.
        codec: The requested codec; None for the default.

    Returns:
        The codec; None for gifs and PNGs, which have no choice.

    Raises:
        MediaError: The codec is unknown, cannot be stored in such a file, or has no encoder in this build of PyAV.
    """
    allowed = CODECS.get(suffix, ())
    codec = codec or next(iter(allowed), None)
    if codec is None:
        return None
    if codec not in allowed:
        known = "; ".join(f"{kind}: {', '.join(codecs)}" for kind, codecs in CODECS.items())
        file = f"a {suffix} file" if suffix else "a folder of PNGs"
        raise MediaError(f"codec {codec!r} cannot be used for {file}; allowed are {known}")
    _check_available(codec)
    return codec


def encode_video(
    frames: Iterable[np.ndarray],
    playback_fps: float,
    comment: str | None = None,
    *,
    suffix: str = ".mp4",
    codec: str | None = None,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Encode frames `[H, W, 3]` uint8 as a video that players and browsers show (yuv420p, BT.709).

    The same frames give the same bytes, at any time and on any number of processors. Frames are consumed one by one,
    so they need not exist all at once; there must be at least one. H.264 stores even sizes only: an odd height or
    width is padded by repeating the last row or column. VP9 and AV1 keep the size.

    Args:
        suffix: `.mp4` or `.webm`, the kind of file.
        codec: A codec of `CODECS`; None for the default.
        options: The encoder's own options, such as `{"crf": "18"}`, in place of those chosen here.

    Raises:
        MediaError: The codec is not available, or cannot store this size or rate.
    """
    chosen = _CODECS[choose_codec(suffix, codec) or ""]
    buffer = io.BytesIO()
    height = width = 0
    # A webm would otherwise contain random identifiers.
    container_options = {"fflags": "+bitexact"} if suffix == ".webm" else {}
    # SVT-AV1 prints its settings and errors to standard error.
    os.environ.setdefault("SVT_LOG", "0")
    try:
        with av.open(buffer, "w", format=suffix[1:], options=container_options) as container:
            if comment is not None:
                container.metadata["comment"] = comment
            encoder_options = {**chosen.options, **(options or {})}
            stream = container.add_stream(chosen.encoder, rate=_rate(playback_fps), options=encoder_options)
            assert isinstance(stream, VideoStream)
            stream.pix_fmt = "yuv420p"
            coder = stream.codec_context
            coder.thread_count = _THREADS
            coder.colorspace = coder.color_primaries = coder.color_trc = _BT709
            coder.color_range = _LIMITED_RANGE
            if chosen.constant_quality:
                coder.bit_rate = 0
            for pixels in frames:
                if not height:
                    height, width = _stored_size(chosen, pixels)
                    stream.height, stream.width = height, width
                    with without_real_time_priority():
                        coder.open(strict=False)
                container.mux(stream.encode(_yuv_frame(pixels, height, width)))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise MediaError(
            f"{chosen.title} cannot store frames of {width}x{height} at {playback_fps:g} frames per second"
            f" ({error.strerror}); choose another size, rate or codec, or write a folder of PNGs"
        ) from error
    return buffer.getvalue()


def _rate(playback_fps: float) -> Fraction:
    # 1001: the broadcast rates such as 24000/1001. A rate of one frame in many seconds must not be rounded to 0.
    if playback_fps < 1:
        return 1 / Fraction(1 / playback_fps).limit_denominator(1001)
    return Fraction(playback_fps).limit_denominator(1001)


def _check_available(codec: str) -> None:
    title, encoder = _CODECS[codec].title, _CODECS[codec].encoder
    try:
        av.codec.Codec(encoder, "w")
    except UnknownCodecError:
        raise MediaError(
            f"PyAV {av.__version__} was built without the {title} encoder {encoder}; choose another codec, or "
            "install PyAV from its official wheels (pip install --only-binary av av)"
        ) from None


def _stored_size(codec: _Codec, pixels: np.ndarray) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    if min(height, width) < codec.min_side:
        raise MediaError(
            f"{codec.title} stores frames of at least {codec.min_side} pixels per side, not {width}x{height}; "
            "choose another codec"
        )
    return (height + height % 2, width + width % 2) if codec.even_sizes else (height, width)


def _yuv_frame(pixels: np.ndarray, height: int, width: int) -> av.VideoFrame:
    padding = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
    padded = np.ascontiguousarray(np.pad(pixels, padding, mode="edge"))
    return av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        # Averaging the colour of each 2 × 2 block is closest to the original for small pictures.
        interpolation=Interpolation.AREA,
    )


def encode_gif(
    frames: Iterable[np.ndarray], playback_fps: float, comment: bytes | None = None, *, num_frames: int | None = None
) -> bytes:
    """Encode frames `[H, W, 3]` uint8 as an endless gif with a palette of 256 colours per frame.

    A gif counts time in hundredths of a second. Each frame starts at the nearest one, so that the whole clip keeps
    its length at rates that do not divide 100. Frames are consumed one by one; there must be at least one.

    Args:
        num_frames: The number of frames of an iterator; None for frames that have a length.

    Raises:
        MediaError: `playback_fps` is above `MAX_GIF_FPS`.
    """
    if playback_fps > MAX_GIF_FPS:
        raise MediaError(
            f"a gif plays at most {MAX_GIF_FPS:g} frames per second, not {playback_fps:g}; "
            "lower the playback rate or write an .mp4"
        )
    if num_frames is None:
        assert isinstance(frames, Sized)
        num_frames = len(frames)
    last, end = (round(100 * index / playback_fps) for index in (num_frames - 1, num_frames))
    options = {"loop": "0", "final_delay": str(end - last)}
    buffer = io.BytesIO()
    # Not Pillow's own gif writer: it drops a frame that equals the one before.
    with av.open(buffer, "w", format="gif", options=options) as container:
        stream = container.add_stream("gif", rate=100)
        stream.pix_fmt = "pal8"
        for index, pixels in enumerate(frames):
            if index == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(_indexed(pixels), format="pal8")  # type: ignore[arg-type]  # unknown to its stubs
            frame.pts = round(100 * index / playback_fps)
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
