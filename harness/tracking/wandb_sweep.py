"""``wandb-sweep.yaml``: the same grid for those who want W&B's own agents to walk it, which needs its server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

AXES = ("systems", "clusters", "models", "workloads", "rate", "seeds")


def write_wandb_sweep(folder: Path, project: str) -> Path | None:
    """Write the grid of ``folder``/resolved.json as a W&B sweep; None where there is no list of axes to write."""
    try:
        sweep: dict[str, Any] = json.loads((folder / "resolved.json").read_text(encoding="utf-8"))["sweep"]
        name = str(sweep["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    lines = [
        "# Start with: wandb sweep wandb-sweep.yaml, then wandb agent. Without a server: harness run sweep.yaml",
        f"name: {json.dumps(name)}",
        f"project: {json.dumps(project)}",
        "method: grid",
        "command:",
        *(f"  - {word}" for word in ('"${env}"', "harness", "run", "sweep.yaml", '"${args_no_hyphens}"')),
        "parameters:",
    ]
    for axis in AXES:
        values = sweep.get(axis)
        if isinstance(values, list) and values:
            lines += [f"  {axis}:", f"    values: {json.dumps([_word(axis, value) for value in values])}"]
    target = folder / "wandb-sweep.yaml"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def _word(axis: str, value: Any) -> Any:
    """A value as an override on the command line says it: plain, or a mapping in JSON."""
    if not isinstance(value, dict):
        return value
    if axis == "systems":
        given = {
            "name": value["name"],
            **({"label": value["label"]} if value.get("label") else {}),
            **value.get("options", {}),
        }
        return given["name"] if len(given) == 1 else json.dumps(given)
    spec = value.get("spec", value)
    return json.dumps(spec) if isinstance(spec, dict) else spec
