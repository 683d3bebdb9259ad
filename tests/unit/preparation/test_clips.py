"""The file of a piece depends on the piece alone, and a piece that cannot be read costs itself only."""

import pytest

from tests.unit.preparation.films import shot, write_film
from videocrafter.preparation import clips as writing
from videocrafter.preparation.clips import write_clips
from videocrafter.preparation.config import ClipConfig

CONFIG = ClipConfig(preset="ultrafast")
WHOLE = (0.0, 1.0, 0.0, 1.0)
# The first one is most of the film, and does not end at a keyframe.
PARTS = [("most", 0.0, 3.5, WHOLE), ("late", 30.0, 32.0, WHOLE), ("end", 2.0, 4.0, WHOLE), ("start", 0.0, 1.0, WHOLE)]


@pytest.fixture(scope="module", params=["film.mp4", "film.mkv"])
def film(request, tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / request.param, shot(1, 48) + shot(2, 48))


@pytest.fixture(scope="module")
def alone(film):
    """Each piece, written by a call of its own."""
    return {part[0]: dict(write_clips(film, "film", [part], CONFIG))[part[0]] for part in PARTS}


@pytest.mark.parametrize("parts", [PARTS, PARTS[::-1], [PARTS[2], *PARTS]])
def test_a_piece_does_not_depend_on_those_before_it(film, alone, parts):
    found = dict(write_clips(film, "film", parts, CONFIG))
    assert found.pop("late").reason == "truncated"
    assert found == {name: result for name, result in alone.items() if name != "late"}


def test_an_open_file_is_read_as_a_path_is(film, alone):
    with film.open("rb") as file:
        found = dict(write_clips(file, "film", PARTS, CONFIG))
    assert [found[name] == alone[name] for name in ("most", "end", "start")] == [True] * 3


def test_a_video_is_opened_once(film, monkeypatch):
    opened, open_reader = [], writing.open_reader

    def counted(source, *arguments):
        opened.append(source)
        return open_reader(source, *arguments)

    monkeypatch.setattr(writing, "open_reader", counted)
    results = dict(write_clips(film, "film", PARTS[2:], CONFIG))
    assert [facts["frames"] for _, facts in results.values()] == [48, 24]
    assert opened.count(film) == 1
