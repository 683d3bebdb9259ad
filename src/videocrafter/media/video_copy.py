"""Copy a part of a video without encoding it again, where its keyframes allow that."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
from av.packet import Packet
from av.video.stream import VideoStream

from videocrafter.media.errors import UnusableMediaError
from videocrafter.media.open_video import OpenVideo, open_video
from videocrafter.media.shown_frame import orientation
from videocrafter.media.video_reader import open_reader

_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")


def copy_part(source: Path | BinaryIO, name: str, start_s: float, end_s: float) -> bytes | None:
    """Return the part from `start_s` to `end_s` as an mp4 with the same frames, without sound.

    Args:
        source: a path, or a seekable binary file object.
        name: name of the file in error messages.
        start_s, end_s: seconds from the first frame; a time after the end is the end.

    Returns:
        The file; None if the part does not begin at a keyframe and end before another one or with the video, or if
        the video is not plain H.264 (4:2:0, 8 bits, upright, square pixels).
    """
    try:
        with open_video(source, name) as video:
            packets = _packets(video, start_s, end_s) if _is_plain(video) else None
            data = None if packets is None else _muxed(video, packets)
        if data is None or packets is None:
            return None
        with open_reader(io.BytesIO(data), name) as reader:
            return data if reader.num_frames == len(packets) else None
    except UnusableMediaError:
        return None


def _is_plain(video: OpenVideo) -> bool:
    stream = video.stream
    codec = stream.codec_context
    if video.format not in _CONTAINERS or codec.name != "h264" or codec.pix_fmt != "yuv420p":
        return False
    if stream.sample_aspect_ratio not in (None, 0, 1):
        return False
    first = next(video.container.decode(stream), None)
    is_upright = first is not None and orientation(first) == (False, False, False)
    video.reopen()
    return is_upright


class _Stamped(NamedTuple):
    """A packet and its time stamps."""

    pts: int
    dts: int
    packet: Packet[VideoStream]


def _packets(video: OpenVideo, start_s: float, end_s: float) -> list[_Stamped] | None:
    """Return the packets of a part in the order of decoding, or None if it cannot be cut there."""
    everything = []
    for packet in video.container.demux(video.stream):
        if packet.size:
            if packet.pts is None or packet.dts is None or packet.is_discard:
                return None
            everything.append(_Stamped(packet.pts, packet.dts, packet))
    first = min((one.pts for one in everything), default=0)
    half = 0.5 * video.ticks_per_s / float(video.stream.guessed_rate or 25)
    start, end = (first + time_s * video.ticks_per_s for time_s in (start_s, end_s))
    inside = [index for index, one in enumerate(everything) if start - half <= one.pts < end - half]
    if not inside or inside != list(range(inside[0], inside[-1] + 1)):
        return None  # a frame outside is decoded between those inside
    after = everything[inside[-1] + 1 :]
    if not everything[inside[0]].packet.is_keyframe or (after and not after[0].packet.is_keyframe):
        return None
    chosen = [everything[index] for index in inside]
    if chosen[0].pts != min(one.pts for one in chosen):
        return None  # frames before the keyframe refer to the part before
    return chosen


def _muxed(video: OpenVideo, packets: list[_Stamped]) -> bytes:
    buffer = io.BytesIO()
    offset = packets[0].dts
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream_from_template(video.stream)
        stream.metadata.clear()
        for pts, dts, packet in packets:
            packet.pts, packet.dts = pts - offset, dts - offset
            packet.stream = stream
            container.mux(packet)
    return buffer.getvalue()
