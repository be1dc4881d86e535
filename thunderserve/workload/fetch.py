"""The original Azure traces, from where they are published, checked against their digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from thunderserve.spec.errors import SpecError

SOURCE = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/master/data"
DIGESTS = {
    "AzureLLMInferenceTrace_code.csv": "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
    "AzureLLMInferenceTrace_conv.csv": "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
}
"""SHA-256 of the LLM inference traces of 2023 (Patel et al., Splitwise, ISCA 2024; CC-BY-4.0, Microsoft)."""

TIMEOUT_S = 30.0


def fetch_azure(folder: Path, *, source: str = SOURCE, digests: Mapping[str, str] = DIGESTS) -> list[Path]:
    """Put the two traces into ``folder`` and return their paths; files that are there and whole are left alone.

    Raises SpecError where there is no network, and for content with another digest (nothing is then left behind).
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_fetch(folder / name, f"{source}/{name}", digest) for name, digest in digests.items()]


def _fetch(path: Path, url: str, digest: str) -> Path:
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
        return path
    try:
        with urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  the address is ours, or the caller's
            content: bytes = answer.read()
    except (URLError, OSError) as error:
        reason = f"cannot be fetched: {getattr(error, 'reason', error)}"
        remedy = f"check the network, or put the file at {path} yourself"
        raise SpecError(reason, file=url, remedy=remedy) from None
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise SpecError(
            f"is not the file it should be: SHA-256 {found[:16]}..., not {digest[:16]}...",
            file=url,
            remedy="it may have changed since; give the file you want by path",
        )
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(content)
    partial.replace(path)
    return path
