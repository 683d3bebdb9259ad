"""One video on two processes equals the same video on one."""

import json
import socket
from typing import Any

import pytest

from tests.tiny_models import tiny_pipeline
from tests.warm_process import WarmProcess

CODE = "from tests.unit.pipelines.parallel.split_calls import main; main()"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The measurements of both processes."""
    folder = tmp_path_factory.mktemp("split")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [WarmProcess(CODE, folder, env={**shared, "RANK": str(rank)}) for rank in range(2)]
    try:
        for process in processes:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("network", ["plain", "everything", "official"])
@pytest.mark.parametrize("split", ["BranchSplit", "FrameSplit"])
def test_a_split_network_predicts_the_same(results: list[dict[str, Any]], split: str, network: str) -> None:
    assert max(found[f"{split}, {network}"] for found in results) < 1e-10


@pytest.mark.parametrize("video", ["short", "partly_guided", "long"])
@pytest.mark.parametrize("what", ["branches", "frames"])
def test_a_split_pipeline_makes_the_same_video(results: list[dict[str, Any]], what: str, video: str) -> None:
    assert max(found[f"{what}, {video}"] for found in results) < 1e-6
    # In float32, another batch size rounds differently, and random weights amplify it.
    assert max(found[f"{what}, short, float32"] for found in results) < 5e-5


def test_frames_that_cannot_be_shared_are_refused(results: list[dict[str, Any]]) -> None:
    for found in results:
        three, two, places = found["refusals"]
        assert "num_frames is 3" in three
        assert "a multiple of 2 and at least 4" in two
        assert "1 x 1 positions, which 2 devices cannot share equally" in places


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match="branches or frames, but is 'layers'"):
        tiny_pipeline(False).split_over_processes("layers")
