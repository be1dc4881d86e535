"""Ablation: what a planner sees that believes all cards and links to be alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from thunderserve.policy import Problem
from thunderserve.spec.cluster import Cluster, Link, NodePair


def levelled(problem: Problem) -> Problem:
    """The problem on a cluster whose cards have the mean speed, and whose links the mean bandwidth, of the real ones.

    Memory stays as it is, so that what is planned can run.
    """
    return replace(problem, cluster=levelled_cluster(problem.cluster))


def levelled_cluster(cluster: Cluster) -> Cluster:
    """See ``levelled``. Efficiency curves are those of the commonest family."""
    cards = [cluster.gpu(device.id) for device in cluster.devices]
    family, _ = Counter(card.family for card in cards).most_common(1)[0]
    gpus = {
        name: gpu.model_copy(
            update={
                "family": family,
                "flops": sum(card.flops for card in cards) / len(cards),
                "memory_bytes_per_s": sum(card.memory_bytes_per_s for card in cards) / len(cards),
                "price_per_hour": sum(card.price_per_hour for card in cards) / len(cards),
            }
        )
        for name, gpu in cluster.gpus.items()
    }
    inside = _mean(list(cluster.inside.values()))
    between = _mean([pair.link for pair in cluster.between]) if cluster.between else None
    return cluster.model_copy(
        update={
            "gpus": gpus,
            "inside": dict.fromkeys(cluster.inside, inside),
            "bridges": (),
            "between": tuple(
                NodePair(source=pair.source, target=pair.target, link=between or pair.link) for pair in cluster.between
            ),
        }
    )


def _mean(links: list[Link]) -> Link:
    return Link(
        latency_s=sum(link.latency_s for link in links) / len(links),
        bytes_per_s=sum(link.bytes_per_s for link in links) / len(links),
    )
