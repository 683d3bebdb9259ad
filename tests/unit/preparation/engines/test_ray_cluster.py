"""The Ray engine does each unit once, asks for nothing that no node has, and writes the files of other engines."""

import pickle
import sys
from types import SimpleNamespace

import pytest

from tests.unit.preparation.films import shot, small_config, write_film
from tests.unit.preparation.inline_engine import InlineEngine
from tests.unit.preparation.test_run import contents
from videocrafter.preparation import run as running
from videocrafter.preparation.config import CaptionConfig, PrepareConfig
from videocrafter.preparation.engines import ray_cluster
from videocrafter.preparation.engines.ray_cluster import RayEngine
from videocrafter.preparation.engines.supervisor import Outcome
from videocrafter.preparation.run import prepare
from videocrafter.preparation.units import Job, Unit


@pytest.fixture
def job(tmp_path):
    return Job(out=tmp_path, config=PrepareConfig(caption=CaptionConfig(model="seer")))


def test_a_repeated_block_repeats_no_unit(job, monkeypatch):
    done = []

    def run(supervisor, unit):
        done.append(unit.id)
        job.files("scan").commit(unit.id, {})
        return Outcome(unit.id, unit.stage, 1.0)

    monkeypatch.setattr(ray_cluster, "_supervisors", {})
    monkeypatch.setattr(ray_cluster.Supervisor, "run", run)
    row = {"unit": pickle.dumps(Unit(stage="scan", id="one"))}
    answers = [ray_cluster._do(row, pickle.dumps(job)) for _ in range(2)]
    assert done == ["one"]
    assert [(answer["unit"], answer["stopped"]) for answer in answers] == [("one", "")] * 2


@pytest.mark.parametrize(("gpus", "expected"), [(0, (1, 1, None)), (1, (1, 1, 1)), (3, (1, 3, 1)), (9, (1, 4, 1))])
def test_there_is_a_caption_model_for_each_gpu(job, monkeypatch, gpus, expected):
    given = {}

    class Data:
        def map(self, function, **options):
            given.update(options)
            return SimpleNamespace(iter_rows=list)

    ray = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=lambda: {"CPU": 8.0, **({"GPU": float(gpus)} if gpus else {})},
        data=SimpleNamespace(
            from_items=lambda items, override_num_blocks: Data(),
            ActorPoolStrategy=lambda min_size, max_size: (min_size, max_size),
        ),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    engine = RayEngine(job)
    engine.run([Unit(stage="caption", id=str(number)) for number in range(4)], print)
    assert (*given["compute"], given["num_gpus"]) == expected
    engine.run([Unit(stage="scan", id="one")], print)
    assert "memory" not in given


@pytest.fixture
def two_nodes():
    """A Ray cluster of two nodes on this machine."""
    ray = pytest.importorskip("ray", reason="needs ray: pip install 'videocrafter[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield ray
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_two_nodes_write_the_same_files(two_nodes, tmp_path, monkeypatch):
    assert len([node for node in two_nodes.nodes() if node["Alive"]]) == 2
    for number in range(4):
        write_film(tmp_path / "films" / f"{number}.mp4", shot(10 + number, 60) + shot(20 + number, 60))
    config = small_config("caption.text=shapes move", "shard.max_clips=3")
    assert prepare([str(tmp_path / "films")], tmp_path / "ray", config, engine="ray").in_shards == 8
    # The cluster was there before, and is left running.
    assert two_nodes.is_initialized()
    monkeypatch.setattr(running, "_engine", lambda name, job: InlineEngine(job))
    prepare([str(tmp_path / "films")], tmp_path / "inline", config)
    assert contents(tmp_path / "ray") == contents(tmp_path / "inline")
