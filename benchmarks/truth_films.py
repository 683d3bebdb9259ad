"""Render films whose cuts, fades, flashes, bars, freezes, shakes and copies are known.

    python -m benchmarks.truth_films FOLDER [--films 20] [--shots 38] [--height 216] [--width 384]

writes `film-00.mp4` … and `truth.json`: for every film the transitions and shots by number of their frames.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np

from videocrafter.media.video_encoding import encode_video

FPS = 24.0


@dataclass
class Shot:
    """A shot of a film: frames `first` to `last`, without the transitions at its ends."""

    seed: int
    first: int = 0
    last: int = 0
    kind: str = "plain"  # plain, bars, pillars, frozen, shaky, subtitles, flash, pan


@dataclass
class Film:
    """A film and its truth: the first frame after each cut, and first and last frame of each slow transition."""

    name: str
    shots: list[Shot] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    slow: list[tuple[int, int]] = field(default_factory=list)
    flashes: list[int] = field(default_factory=list)
    copy_of: str = ""


class Scene:
    """An endless shot: a textured ground, a camera that moves over it, and shapes that cross it."""

    def __init__(self, seed: int, height: int, width: int) -> None:
        random = np.random.default_rng(seed)
        self._size, self._random = (height, width), random
        side = 2 * width
        ground = np.zeros((side, side, 3), np.float32)
        for cells, weight in ((4, 70), (16, 45), (64, 25)):
            noise = random.normal(0, weight, (cells, cells, 3)).astype(np.float32)
            ground += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        ground += random.uniform(60, 190, 3) + random.normal(0, 6, (side, side, 1))
        self._ground = np.clip(ground, 0, 255).astype(np.uint8)
        self._velocity = random.uniform(-0.8, 0.8, 2) * width / 100
        self._zoom = random.uniform(-0.0015, 0.0015)
        self._shapes = [
            (
                random.uniform(0, 1, 2),
                random.uniform(-0.012, 0.012, 2),
                random.uniform(0.04, 0.15),
                random.integers(0, 256, 3),
            )
            for _ in range(4)
        ]

    def frame(self, number: int, shake: np.ndarray | None = None) -> np.ndarray:
        """Frame `number`, uint8 `[H, W, 3]`."""
        height, width = self._size
        x, y = (np.array([width, width]) / 2 + self._velocity * number) + (0 if shake is None else shake)
        zoom = 1 + self._zoom * number
        matrix = np.array([[zoom, 0, x], [0, zoom, y]], np.float32)
        picture = cv2.warpAffine(
            self._ground,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        for place, velocity, size, colour in self._shapes:
            centre = ((place + velocity * number) % 1.2 - 0.1) * (width, height)
            cv2.circle(picture, (round(centre[0]), round(centre[1])), round(size * height), colour.tolist(), -1)
        return picture


def decorated(picture: np.ndarray, kind: str) -> np.ndarray:
    """A frame with the bars or subtitles of its shot."""
    height, width = picture.shape[:2]
    if kind == "bars":
        picture[: height // 8] = picture[-(height // 8) :] = 0
    elif kind == "pillars":
        picture[:, : width // 8] = picture[:, -(width // 8) :] = 0
    elif kind == "subtitles":
        cv2.putText(
            picture, "words that stand still", (width // 6, height - 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255,) * 3, 2
        )
    return picture


def shot_frames(shot: Shot, length: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Frames of a shot on its own."""
    scene, random = Scene(shot.seed, height, width), np.random.default_rng(shot.seed + 1)
    for number in range(length):
        moment = min(number, length // 5) if shot.kind == "frozen" else number * (6 if shot.kind == "pan" else 1)
        shake = random.normal(0, width / 60, 2) if shot.kind == "shaky" else None
        picture = decorated(scene.frame(moment, shake), shot.kind)
        if shot.kind == "flash" and length // 2 <= number < length // 2 + 3:
            picture = np.full_like(picture, 250)
        yield picture


def film_frames(film: Film, num_shots: int, seed: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Render a film and fill in its truth."""
    random = np.random.default_rng(seed)
    kinds = ["plain"] * 6 + ["pan", "bars", "pillars", "frozen", "shaky", "subtitles", "flash"]
    position, before = 0, None
    for index in range(num_shots):
        shot = Shot(seed=seed * 1000 + index, kind=str(random.choice(kinds)))
        length = int(random.integers(50, 110))
        frames = list(shot_frames(shot, length, height, width))
        how = str(random.choice(["cut"] * 5 + ["dissolve", "black"])) if before is not None else ""
        if how == "cut":
            film.cuts.append(position)
        elif how:
            ramp = int(random.integers(10, 30))
            start = position - 1
            for step in range(1, ramp):
                share = step / ramp
                if how == "dissolve":
                    yield cv2.addWeighted(before, 1 - share, frames[0], share, 0)
                else:
                    yield (
                        (before * max(0.0, 1 - 2 * share)).astype(np.uint8)
                        if share < 0.5
                        else (frames[0] * (2 * share - 1)).astype(np.uint8)
                    )
            position += ramp - 1
            film.slow.append((start, position))
        shot.first, shot.last = position, position + length - 1
        if shot.kind == "flash":
            film.flashes.append(position + length // 2)
        film.shots.append(shot)
        yield from frames
        position += length
        before = frames[-1]


def render(folder: Path, num_films: int, num_shots: int, height: int = 216, width: int = 384) -> list[Film]:
    """Write the films; the last tenth of them are copies of the first ones, smaller and at another quality."""
    folder.mkdir(parents=True, exist_ok=True)
    films = []
    options = {"preset": "veryfast", "crf": "20"}
    for number in range(num_films):
        film = Film(f"film-{number:02d}.mp4")
        data = encode_video(film_frames(film, num_shots, number + 1, height, width), FPS, options=options)
        (folder / film.name).write_bytes(data)
        films.append(film)
    for number in range(max(1, num_films // 10)):
        copy = Film(f"copy-{number:02d}.mp4", copy_of=films[number].name)
        small = (
            cv2.resize(picture, (width * 3 // 4, height * 3 // 4), interpolation=cv2.INTER_AREA)
            for picture in film_frames(copy, num_shots, number + 1, height, width)
        )
        data = encode_video(small, FPS, options={"preset": "veryfast", "crf": "28"})
        (folder / copy.name).write_bytes(data)
        films.append(copy)
    (folder / "truth.json").write_text(json.dumps([asdict(film) for film in films], indent=1))
    return films


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=20)
    parser.add_argument("--shots", type=int, default=38)
    parser.add_argument("--height", type=int, default=216, help="height in pixels (%(default)s)")
    parser.add_argument("--width", type=int, default=384, help="width in pixels (%(default)s)")
    arguments = parser.parse_args()
    films = render(arguments.folder, arguments.films, arguments.shots, arguments.height, arguments.width)
    print(f"{len(films)} films, {sum(len(film.cuts) for film in films)} hard cuts in {arguments.folder}")


if __name__ == "__main__":
    main()
