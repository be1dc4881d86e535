"""Names (or paths, or inline mappings) to nouns: the three look-ups a sweep needs before it meets a workload."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thunderserve.spec import document
from thunderserve.spec.catalogue import find
from thunderserve.spec.cluster import Cluster
from thunderserve.spec.cluster_file import ClusterFile
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.gpu import Catalogue, Gpu, GpuFile
from thunderserve.spec.model import ModelSpec


def load_gpu(
    name: str, catalogue: Catalogue = "datasheet", market: str | None = None, *, beside: Path | None = None
) -> Gpu:
    """The type ``name`` of ``configs/gpus`` as ``catalogue`` has it.

    ``market`` chooses the price (``paper``, ``on_demand``, ``market``); without it the first of paper, market, on_demand
    that is known. A figure the paper does not print is the data sheet's. Raises SpecError for an unknown name or market.
    """
    path = find("gpus", name, beside=beside)
    file = _gpu_file(path, path.stat().st_mtime)
    if market is not None and market not in file.prices:
        raise SpecError(f"has no {market!r} price", file=path, key="prices", remedy=nearest(market, file.prices))
    return file.gpu(catalogue, market)


def load_cluster(
    spec: str | Mapping[str, Any],
    catalogue: Catalogue = "datasheet",
    market: str | None = None,
    *,
    beside: Path | None = None,
    file: Path | None = None,
    at: tuple[str | int, ...] = (),
) -> Cluster:
    """A cluster by name, by path, or from the mapping of a sweep (which lies in ``file`` at the key path ``at``).

    ``catalogue`` and ``market`` as in ``load_gpu``. Raises SpecError, naming file, line and key.
    """
    if isinstance(spec, str):
        file, at = find("clusters", spec, beside=beside), ()
        content = document.read(file)
    else:
        content = spec
    given = document.validate(ClusterFile, content, file=file, at=at)
    folder = file.parent if file is not None else beside
    try:
        gpus = {gpu: load_gpu(gpu, catalogue, market, beside=folder) for gpu in given.gpu_names}
        return given.cluster(gpus)
    except SpecError as error:
        where = given.key_of(str(error.value)) if error.file is None else ()
        if not where:
            raise
        raise SpecError(
            error.reason,
            file=file,
            line=document.line_of(content, where),
            key=document.dotted((*at, *where)),
            value=error.value,
            remedy=error.remedy,
        ) from None
    except ValidationError as error:
        raise document.explain(error, Cluster, {}, file=file, at=at) from None
    except ValueError as error:
        raise SpecError(str(error), file=file, key=document.dotted(at)) from None


def load_model(name: str, *, beside: Path | None = None) -> ModelSpec:
    """The model ``name`` of ``configs/models``, or of the file at that path. Raises SpecError."""
    return document.load(ModelSpec, find("models", name, beside=beside))


@cache
def _gpu_file(path: Path, changed: float) -> GpuFile:  # noqa: ARG001  a changed file is read again
    return document.load(GpuFile, path)
