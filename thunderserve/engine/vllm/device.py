"""A thread that copies beside the thread that computes. On CUDA it has a stream of its own (never run: we have no GPU)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from thunderserve.kv.kernels.contract import Kernels


def enter(device: torch.device) -> None:
    """Call once at the start of a thread that reads or writes the cache."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.set_stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def settle(device: torch.device) -> None:
    """Wait until everything that this thread has begun on the device is done."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def kernels_for(device: torch.device) -> Callable[[], Kernels] | None:
    """What encodes tensors of this device; nothing for the CPU's own."""
    if device.type != "cuda":
        return None
    from thunderserve.kv.kernels.gpu import Gpu

    return Gpu
