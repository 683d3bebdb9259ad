"""Captions come from an endpoint or a local model; errors and unusable text are named per clip."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.unit.preparation.films import shot, write_film
from videocrafter.preparation.caption import captioning, http_captioner
from videocrafter.preparation.caption.captioning import caption_clips
from videocrafter.preparation.config import CaptionConfig, ProcessLimits
from videocrafter.preparation.failures import UnitError


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("clip") / "clip.mp4", shot(1, 12))


@pytest.fixture
def endpoint(monkeypatch):
    """A server that answers with the texts, statuses or bytes of a list, the last one for ever.

    None is a line that is not HTTP, and `{` the start of a longer answer.
    """
    monkeypatch.setattr(http_captioner, "_FIRST_PAUSE_S", 0.0)
    requests: list[dict] = []
    answers: list[object] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append({**body, "key": self.headers.get("Authorization")})
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, int):
                self.send_error(answer)
                return
            if answer is None:
                self.wfile.write(b"nonsense\r\n\r\n")
                return
            message = {"choices": [{"message": {"content": answer}}]}
            data = answer if isinstance(answer, bytes) else json.dumps(message).encode()
            self.send_response(200)
            if data == b"{":
                self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions", answers, requests
    server.shutdown()
    server.server_close()


def caption(clip, url, **settings):
    [(name, result)] = caption_clips({"one": clip}, CaptionConfig(url=url, **settings))
    assert name == "one"
    return result


def test_an_endpoint_is_asked_with_pictures_and_its_key(endpoint, clip, monkeypatch):
    url, answers, requests = endpoint
    monkeypatch.setenv("VIDEOCRAFTER_CAPTION_KEY", "secret")
    answers += ["The video shows a ball on a field.", "A ball rolls over a field in the sun."]
    result = caption(clip, url, model="seer", frames=3)
    assert result == {
        "caption_short": "A ball on a field.",
        "caption_dense": "A ball rolls over a field in the sun.",
        "caption_model": "seer",
        "prompt_version": "1",
    }
    content = requests[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "image_url", "image_url"]
    assert content[1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert (requests[0]["model"], requests[0]["key"]) == ("seer", "Bearer secret")


def test_a_busy_endpoint_is_asked_again(endpoint, clip):
    url, answers, requests = endpoint
    answers += [503, 429, "A ball on a field."]
    assert caption(clip, url)["caption_short"] == "A ball on a field."
    assert len(requests) == 4


@pytest.mark.parametrize(
    ("answer", "reason", "count"),
    [
        (500, "caption_failed", 3),
        (401, "caption_failed", 1),
        (b"not json", "bad_model_output", 1),
        (None, "caption_failed", 3),
        (b"{", "caption_failed", 3),
        ("no", "bad_model_output", 3),
    ],
)
def test_failures_are_named(endpoint, clip, answer, reason, count):
    url, answers, requests = endpoint
    answers.append(answer)
    result = caption(clip, url)
    assert isinstance(result, UnitError)
    assert (result.reason, len(requests)) == (reason, count)
    if answer == "no":  # the most likely answer would be the same again
        assert [request["temperature"] for request in requests] == [0, 0.7, 0.7]


def test_an_endpoint_that_hangs_is_given_up_before_its_process_is():
    limits, tries = ProcessLimits(), CaptionConfig().tries
    pauses_s = sum(http_captioner._FIRST_PAUSE_S * 2**attempt for attempt in range(tries - 1))
    assert tries * http_captioner._TIMEOUT_S + pauses_s < limits.base_s + limits.per_caption_s


def test_answers_are_passed_on_while_others_are_awaited(clip, monkeypatch):
    waiting = threading.Event()

    class Seer:
        name = "seer"
        asked = 0

        def describe(self, *_, **options):
            self.asked += 1
            if self.asked == 1:
                assert waiting.wait(30)
            return "A ball on a field."

    seer = Seer()
    monkeypatch.setattr(captioning, "load_captioner", lambda config: seer)
    results = caption_clips({"one": clip, "two": clip}, CaptionConfig(url="http://localhost", concurrency=2))
    first, _ = next(results)
    waiting.set()
    assert {first, *dict(results)} == {"one", "two"}


def test_a_refused_connection_is_named(clip, monkeypatch):
    monkeypatch.setattr(http_captioner, "_FIRST_PAUSE_S", 0.0)
    result = caption(clip, "http://127.0.0.1:9/none")
    assert isinstance(result, UnitError)
    assert result.reason == "caption_failed"


def test_a_local_image_captioner_is_loaded_from_its_folder(clip, tmp_path, monkeypatch):
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    from videocrafter.preparation.caption.local_captioner import LocalCaptioner

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "ball", "rolls", "slowly"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={**small, "vocab_size": 10, "bos_token_id": 5, "sep_token_id": 3, "encoder_hidden_size": 16},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    folder = tmp_path / "model"
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    captioner = LocalCaptioner(str(folder))
    import numpy as np

    text = captioner.describe(np.zeros((3, 40, 60, 3), np.uint8), "ignored", 6, temperature=0.7)
    assert captioner.name == "model"
    assert set(text.split()) <= set(words)


def test_a_missing_model_is_named(tmp_path):
    from videocrafter.preparation.caption.local_captioner import LocalCaptioner

    with pytest.raises(UnitError, match="expected the folder of a model"):
        LocalCaptioner(str(tmp_path / "none"))
