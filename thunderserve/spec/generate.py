"""Random mixed clusters of any size, for tests, for scaling studies and for training search policies."""

from __future__ import annotations

from collections.abc import Sequence

from thunderserve.spec.cluster import Cluster
from thunderserve.spec.gpu import Catalogue
from thunderserve.spec.load import load_cluster


def random_cluster(
    devices: int,
    seed: int,
    *,
    types: Sequence[str] = ("a6000", "a5000", "a40", "3090ti"),
    node_sizes: Sequence[int] = (1, 2, 4, 8),
    bridged: float = 0.5,
    catalogue: Catalogue = "datasheet",
) -> Cluster:
    """A cluster of ``devices`` cards on rented nodes, the same for the same arguments on any machine.

    Types, node sizes and bridges are drawn evenly; links as between nodes of a GPU market place. Raises SpecError for an
    unknown type. In YAML: ``random: {devices: 128, seed: 3, types: [a40, l4]}``.
    """
    drawn = {"devices": devices, "seed": seed, "types": list(types), "node_sizes": list(node_sizes), "bridged": bridged}
    return load_cluster({"name": f"random-{devices}-seed{seed}", "random": drawn}, catalogue)
