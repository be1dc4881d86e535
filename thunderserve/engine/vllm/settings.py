"""What ``kv_connector_extra_config`` may say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from thunderserve.engine.transfer.limits import Limits
from thunderserve.engine.transfer.link import Link
from thunderserve.engine.transfer.nixl import Nixl
from thunderserve.engine.transfer.transport import Tcp, Transport
from thunderserve.kv.wire.catalogue import names
from thunderserve.spec.errors import nearest

GBIT = 1e9 / 8
TRANSPORTS = ("tcp", "nixl")


@dataclass(frozen=True)
class Settings:
    """Of one instance; every rank listens at ports of its own.

    Raises:
        ValueError: a value that cannot be, named.
    """

    host: str = "127.0.0.1"
    """That the other instances can reach; listened on as well. ``$NAME`` stands for a variable of each rank's own environment."""
    codec: str = "raw"
    """Of keys and values that leave this instance, unless a request says another."""
    group_size: int = 0
    """Of the codec; 0 for its own."""
    link_gbit: float = 0.0
    """What the network is made to look like; 0 for as it is."""
    link_latency_ms: float = 0.0
    lease_s: float = 60.0
    """A finished prefill whose keys and values nobody has asked for is given up after this long."""
    timeout_s: float = 30.0
    """A load that makes no progress for this long has failed."""
    retries: int = 3
    """Of a question to another instance, and of a connection in a row without progress."""
    most_gib: float = 2.0
    """Keys, values and packets in memory beside vLLM's own cache, on each side."""
    transport: str = "tcp"
    """Of all instances alike: ``tcp``, or ``nixl`` where that is installed."""

    def __post_init__(self) -> None:
        if self.codec not in names():
            raise ValueError(_wrong("codec", self.codec, nearest(self.codec, names())))
        if self.transport not in TRANSPORTS:
            raise ValueError(_wrong("transport", self.transport, nearest(self.transport, TRANSPORTS)))
        for name in ("lease_s", "timeout_s", "most_gib"):
            if getattr(self, name) <= 0:
                raise ValueError(_wrong(name, getattr(self, name), "it is positive"))
        for name in ("group_size", "link_gbit", "link_latency_ms", "retries"):
            if getattr(self, name) < 0:
                raise ValueError(_wrong(name, getattr(self, name), "it is 0 or more"))

    @property
    def link(self) -> Link:
        """For the sender."""
        return Link(self.link_gbit * GBIT or None, self.link_latency_ms / 1000)

    @property
    def limits(self) -> Limits:
        """Of the sender and the receiver."""
        return Limits(
            lease_s=self.timeout_s, stall_s=self.timeout_s, retries=self.retries + 1,
            most_bytes=int(self.most_gib * 2**30),
        )  # fmt: skip

    @property
    def network(self) -> Transport:
        """Of the sender and the receiver. Raises ValueError where it is not installed."""
        return Tcp() if self.transport == "tcp" else Nixl()

    def written(self) -> dict[str, Any]:
        """As ``kv_connector_extra_config``."""
        return asdict(self)


def settings_from(given: Mapping[str, Any]) -> Settings:
    """Settings of a configuration.

    Raises:
        ValueError: an unknown key, or a value of a wrong type or size.
    """
    known = {field.name: type(field.default) for field in fields(Settings)}
    for key, value in given.items():
        if key not in known:
            raise ValueError(_wrong(key, value, f"there is no such key; {nearest(key, known)}"))
        number = isinstance(value, int | float) and not isinstance(value, bool) and known[key] is float
        if not isinstance(value, known[key]) and not number:
            raise ValueError(_wrong(key, value, f"it is of type {known[key].__name__}"))
    found = Settings(**given)
    return replace(found, host=_address(found.host))


def _address(host: str) -> str:
    """Raises ValueError for a variable that is not set."""
    if not host.startswith("$"):
        return host
    if not (value := os.environ.get(host[1:], "")):
        raise ValueError(_wrong("host", host, "this variable is not set where the rank runs"))
    return value


def _wrong(key: str, value: object, remedy: str) -> str:
    return f"kv_connector_extra_config: {key} = {value!r}: {remedy}"
