"""Several transfers at once, or one after the other: their numbers, and who leaves first."""

from __future__ import annotations

import numpy as np
import pytest

from thunderserve.engine.transfer.events import Broken, Completed, Confirmed, Failed


def test_numbers_are_free_again_after_the_end(make, parts):
    pair = make()
    for turn in range(3):
        pair.worker.ends.clear()
        pair.ends.clear()
        pair.send(9, 1, 5, [parts.kv(5, seed=turn)])
        with pytest.raises(ValueError, match="runs"):
            pair.start(9, 1, 5)
        pair.until_ended(9)
        np.testing.assert_array_equal(pair.worker.layers[9][0].k, parts.kv(5, seed=turn)[0])


def test_a_number_offered_by_another_sender_ends_the_first(make, parts):
    first, second = make(grant=False), make()
    first.start(3, 1, 5)
    first.until(lambda: 3 in first.worker.offers)
    second.send(3, 1, 5, [parts.kv(5)], address=first.receiver.address)
    assert first.until_ended(3) == [Failed(3, "it was offered anew")]
    first.until(lambda: isinstance(first.worker.ends.get(3), Broken))
    first.until(lambda: 3 in first.receiver._by_id)
    first.worker.ends.clear()
    first.receiver.grant(3)
    first.until(lambda: isinstance(first.worker.ends.get(3), Completed))


def test_sixty_transfers_at_once_over_several_connections(make, parts):
    pair = make(sender={"connections": 3})
    data = {n: [parts.kv(6 + n % 5, seed=100 * n + layer) for layer in range(4)] for n in range(60)}
    for n, layers in data.items():
        pair.send(n, 4, 6 + n % 5, layers)
    assert all(isinstance(end, Confirmed) for end in pair.until_ended(*data))
    for n, layers in data.items():
        for arrived in pair.worker.layers[n]:
            np.testing.assert_array_equal(arrived.k, layers[arrived.layer][0])


def test_the_older_of_two_transfers_leaves_first(make, parts):
    pair = make(grant=False)
    for n in (1, 2):
        pair.send(n, 12, 50, [parts.kv(50)] * 12)
    pair.until(lambda: len(pair.worker.offers) == 2)
    pair.until(lambda: all(out._encoded == 12 for out in pair.sender._desk.live.values()))
    with pair.sender._desk.lock:  # neither grant is heard before the other
        assert all(pair.receiver.grant(n) for n in (2, 1))
        for out in pair.sender._desk.live.values():
            out._granted_s = 0.0
    order = []
    while len(order) < 24:
        event = pair.worker.turn(1.0)
        if type(event).__name__ == "Arrived":
            order.append(event.id)
    assert order == [1] * 12 + [2] * 12
    pair.until_ended(1, 2)


def test_an_older_transfer_without_a_layer_to_send_holds_no_younger_up(make, parts):
    pair = make()
    older = pair.start(1, 2, 50)
    older.put(0, 0, *parts.kv(50))
    pair.until(lambda: pair.worker.layers.get(1))
    pair.send(2, 2, 50, [parts.kv(50)] * 2)
    assert isinstance(pair.until_ended(2)[0], Confirmed)
    older.put(1, 0, *parts.kv(50))
    older.close()
    assert isinstance(pair.until_ended(1)[0], Confirmed)
