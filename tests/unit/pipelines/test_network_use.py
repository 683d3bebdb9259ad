import threading

import pytest
from torch import nn

from videocrafter.pipelines.network_use import using_network

NETWORK = nn.Identity()


def started(*calls):
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def test_calls_run_at_the_same_time_unless_one_is_alone():
    meeting = threading.Barrier(2, timeout=10)
    inside, most, alone_with = [], [], []

    def shared():
        with using_network(NETWORK):
            inside.append(1)
            meeting.wait()
            most.append(len(inside))
            meeting.wait()
            inside.pop()

    def alone():
        with using_network(NETWORK, alone=True):
            alone_with.append(len(inside))

    with using_network(NETWORK), using_network(nn.Identity(), alone=True):
        threads = started(alone)
        started_shared = started(shared, shared)
        for thread in started_shared:
            thread.join(10)
        assert alone_with == []
    threads[0].join(10)
    assert max(most) == 2
    assert alone_with == [0]


def test_a_call_may_start_others_in_its_own_thread():
    with using_network(NETWORK), using_network(NETWORK, alone=True), using_network(NETWORK):
        other = started(lambda: using_network(NETWORK).__enter__())[0]
        other.join(0.05)
        assert other.is_alive(), "it waits, although the call inside the lonely one is not alone"
    other.join(10)
    assert not other.is_alive()


def test_an_error_ends_a_call():
    network = nn.Identity()
    with pytest.raises(ValueError, match="failed"), using_network(network, alone=True):
        raise ValueError("failed")
    (thread,) = started(lambda: using_network(network, alone=True).__enter__())
    thread.join(10)
    assert not thread.is_alive()
