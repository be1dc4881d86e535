"""vLLM calls its connector interface experimental: which versions this one was tested with, and a clear word about others."""

from __future__ import annotations

import inspect
from typing import Any

TESTED = ("0.32.0",)
ABSTRACT = {
    "start_load_kv", "wait_for_layer_load", "save_kv_layer", "wait_for_save", "get_num_new_matched_tokens",
    "update_state_after_alloc", "build_connector_meta",
}  # fmt: skip
"""What must be implemented, and is."""
SIGNATURES = {
    "__init__": ("self", "vllm_config", "role", "kv_cache_config"),
    "register_kv_caches": ("self", "kv_caches"),
    "get_finished": ("self", "finished_req_ids"),
    "get_block_ids_with_load_errors": ("self",),
    "get_handshake_metadata": ("self",),
    "set_xfer_handshake_metadata_pp_aware": ("self", "metadata"),
    "get_num_new_matched_tokens": ("self", "request", "num_computed_tokens"),
    "update_state_after_alloc": ("self", "request", "blocks", "num_external_tokens"),
    "build_connector_meta": ("self", "scheduler_output"),
    "request_finished": ("self", "request", "block_ids"),
}


def differences(base: type[Any]) -> list[str]:
    """In what a version's ``KVConnectorBase_V1`` differs from the one that this connector was written for."""
    found = []
    abstract = set(getattr(base, "__abstractmethods__", ()))
    if missing := sorted(abstract - ABSTRACT):
        found.append(f"it wants {', '.join(missing)} as well")
    for name, wanted in SIGNATURES.items():
        method = getattr(base, name, None)
        if method is None:
            found.append(f"it does not know {name}")
        elif (there := tuple(inspect.signature(method).parameters)) != wanted:
            found.append(f"{name} takes ({', '.join(there)}), not ({', '.join(wanted)})")
    return found


def check(version: str, base: type[Any]) -> str:
    """A warning, or nothing.

    Raises:
        RuntimeError: this version's interface is another one.
    """
    tested = ", ".join(TESTED)
    if words := differences(base):
        raise RuntimeError(
            f"ThunderServe's connector was tested with vLLM {tested}; the interface of this vLLM {version} differs: "
            f"{'; '.join(words)}. Install a tested version."
        )
    if version.split("+", maxsplit=1)[0] in TESTED:
        return ""
    return f"ThunderServe's connector was tested with vLLM {tested}, not with {version}; the interface looks the same"
