import errno
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.unit.web.conftest import problem
from videocrafter.media.video_file import write_video
from videocrafter.web.upload_check import check_file, recognise_upload


def picture(size=(20, 10), form="PNG", **settings):
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, form, **settings)
    return file.getvalue()


def upload(client, content):
    return client.post("/api/v1/uploads", content=content)


def test_a_picture_is_stored_again_without_anything_but_its_pixels(client, studio):
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    answer = upload(client, picture(form="JPEG", exif=exif))
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert (found["kind"], found["width"], found["height"]) == ("image", 20, 10)
    stored = client.get(found["link"])
    assert stored.headers["content-type"] == "image/png"
    assert b"secret" not in stored.content
    assert upload(client, picture(form="JPEG")).json()["id"] == found["id"]
    assert len(list(studio.folder.uploads.iterdir())) == 1
    job = client.post("/api/v1/jobs", json={"prompt": "a", "image": found["id"], "model": "tiny"})
    assert job.status_code == 201


def test_a_clip_is_kept_and_a_broken_one_refused(client, tmp_path, studio):
    path = tmp_path / "v.mp4"
    write_video(path, np.zeros((8, 16, 16, 3), np.uint8), 8)
    found = upload(client, path.read_bytes()).json()
    assert (found["kind"], found["width"]) == ("clip", 16)
    assert client.get(found["link"]).content == path.read_bytes()
    problem(upload(client, path.read_bytes()[:300]), 422, "broken-file")
    assert len(list(studio.folder.uploads.iterdir())) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<html><script>alert(1)</script>",
        b"\x80\x04\x95pickle",
        b"PK\x03\x04",
        b"#!/bin/sh",
    ],
)
def test_other_types_are_refused_whatever_their_name(client, studio, content):
    assert "accepted" in problem(upload(client, content), 415, "unknown-file-type")
    assert list(studio.folder.uploads.iterdir()) == []


def test_limits_are_named(client, studio, tmp_path, monkeypatch):
    assert "million pixels" in problem(upload(client, picture((10_000, 10_000))), 413, "too-many-pixels")
    monkeypatch.setattr(type(studio.limits), "image_bytes", 10, raising=False)
    object.__setattr__(studio.limits, "image_bytes", 10)
    problem(upload(client, picture()), 413, "file-too-large")
    object.__setattr__(studio.limits, "clip_bytes", 20)
    problem(upload(client, iter([picture()])), 413, "file-too-large")
    assert list(studio.folder.uploads.iterdir()) == []


def test_our_files_give_their_settings_back(client, tmp_path):
    recording = {"prompt": "a cat", "seed": 7, "model": "tiny", "guidance_scale": 4.0, "num_frames": 8}
    recording |= {"image_scale": 1.0, "loras": ["../x/style.safetensors:0.5"], "device": "cpu"}
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    for name in ("v.mp4", "v.gif", "v.webm", "v"):
        write_video(tmp_path / name, frames, 8, recording)
    files = [tmp_path / name for name in ("v.mp4", "v.gif", "v.webm", "v.mp4.json", "v/frame_000000.png")]
    for path in files:
        answer = client.post("/api/v1/recordings", content=path.read_bytes())
        assert answer.status_code == 200, (path, answer.text)
        request = answer.json()["request"]
        assert (request["prompt"], request["seed"], request["guidance_scale"]) == ("a cat", 7, 4.0)
        assert "image_scale" not in request
        assert answer.json()["notes"] == ["the LoRA 'style' is not here; it is left out"]
        assert client.post("/api/v1/jobs", json=request).status_code == 201


def test_files_without_settings_and_hostile_ones_are_named(client):
    problem(client.post("/api/v1/recordings", content=picture()), 422, "no-recording")
    for hostile in (
        {"prompt": ["x"]},
        {"prompt": "a", "seed": 10**400},
        {"prompt": "a", "width": "wide"},
        {"loras": 7},
    ):
        answer = client.post("/api/v1/recordings", content=json.dumps(hostile))
        assert answer.status_code == 422
    problem(client.post("/api/v1/recordings", content=b'{"a": ' + b"[" * 10**5), 422, "broken-file")


def test_a_decoder_that_hangs_or_crashes_ends_alone(studio, tmp_path, monkeypatch):
    from videocrafter.web.problems import Problem

    source = tmp_path / "x.png"
    source.write_bytes(picture())
    monkeypatch.setattr("videocrafter.web.upload_check.sys.executable", "/bin/false")
    with pytest.raises(Problem, match="its decoder crashed") as caught:
        check_file(source, tmp_path / "target", studio.limits)
    assert caught.value.status == 422
    assert recognise_upload(b"\x89PNG\r\n\x1a\n") == (".png", "image")


def test_a_stalled_upload_and_a_full_disk_are_named(client, studio, monkeypatch):
    import asyncio

    from videocrafter.web.api.uploads import Receiver
    from videocrafter.web.problems import Problem, as_problem

    class Stalled:
        async def stream(self):
            yield b"x"
            await asyncio.sleep(60)

    async def receive():
        async with Receiver(studio).received(Stalled(), "a" * 32):
            pass

    object.__setattr__(studio.limits, "stalled_seconds", 0.01)
    with pytest.raises(Problem, match="no data came") as caught:
        asyncio.run(receive())
    assert caught.value.status == 408
    assert list(studio.folder.uploads.iterdir()) == []
    assert as_problem(OSError(errno.ENOSPC, "No space left on device")).status == 507
    object.__setattr__(studio.limits, "disk_free_bytes", 2**70)
    assert "free" in problem(upload(client, picture()), 507, "disk-full")


def test_a_video_of_the_gallery_is_found_again_as_an_input(client, studio, add_video):
    from videocrafter.media.file_hash import file_sha256

    video = add_video()
    recording = {"prompt": "a", "video": f"{video}.mp4", "video_sha256": file_sha256(studio.folder.video(video))}
    answer = client.post("/api/v1/recordings", content=json.dumps(recording)).json()
    assert answer["request"]["video"] == video
    other = {**recording, "video_sha256": "0" * 64}
    assert "video" not in client.post("/api/v1/recordings", content=json.dumps(other)).json()["request"]


def test_a_seed_that_browsers_round_comes_back_as_a_note(client):
    answer = client.post("/api/v1/recordings", content=json.dumps({"prompt": "a", "seed": 2**60})).json()
    assert "seed" not in answer["request"]
    assert str(2**60) in answer["notes"][0]


def test_settings_with_text_that_no_answer_can_contain_are_refused(client):
    answer = client.post("/api/v1/recordings", content=r'{"prompt": "a \ud800"}')
    assert "surrogate" in problem(answer, 422, "broken-file")
