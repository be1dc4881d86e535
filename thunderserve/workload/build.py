"""From a name, a path or a mapping to a workload: everything it names is looked up and read here, once."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from thunderserve.spec import document
from thunderserve.spec.catalogue import find
from thunderserve.spec.errors import SpecError
from thunderserve.workload.file import (
    ConstantLengths,
    Lengths,
    LognormalLengths,
    MixtureLengths,
    Part,
    PoissonArrivals,
    ReplayArrivals,
    TableLengths,
    TraceLengths,
    WorkloadFile,
)
from thunderserve.workload.lengths import Constant, Lognormals, Mixture, Rows, Sampler
from thunderserve.workload.limits import Limits
from thunderserve.workload.read import read_rows
from thunderserve.workload.table import read_table
from thunderserve.workload.workload import Stretch, Workload

Path_ = tuple[str | int, ...]


def load(
    spec: str | Mapping[str, Any],
    *,
    beside: Path | None = None,
    file: Path | None = None,
    at: Path_ = (),
) -> Workload:
    """The workload of a name in ``configs/workloads``, of a YAML or trace file, or of a mapping.

    A mapping lies in ``file`` at the key path ``at``, which errors then name. Relative paths count from the folder of the
    file that names them (``beside`` for ``spec`` itself) and from the working folder. Raises SpecError.
    """
    return _load(spec, beside if beside is not None else (file.parent if file else None), file, at, ())


def _load(
    spec: str | Mapping[str, Any], beside: Path | None, file: Path | None, at: Path_, seen: tuple[Path, ...]
) -> Workload:
    if isinstance(spec, str) and spec.removesuffix(".gz").endswith((".csv", ".jsonl")):
        spec = {"path": spec}
    if not isinstance(spec, str):
        return _Builder(spec, beside, file, at, seen).workload()
    path = find("workloads", spec, beside=beside)
    if path.resolve() in seen:
        raise SpecError("is built on itself", file=path)
    content = document.read(path)
    if isinstance(content, MutableMapping) and "lengths" not in content:
        # A file's own name is its name, not that of a workload it is built on.
        content["lengths"] = None
    built = _Builder(content, path.parent, path, (), (*seen, path.resolve())).workload()
    return replace(built, name=built.name or path.stem)


class _Builder:
    """One mapping on its way to a workload, with what its errors have to say about where it stands."""

    def __init__(self, content: Any, beside: Path | None, file: Path | None, at: Path_, seen: tuple[Path, ...]) -> None:
        self.content, self.beside, self.file, self.at, self.seen = content, beside, file, at, seen
        self.given = document.validate(WorkloadFile, content, file=file, at=at)

    def workload(self) -> Workload:
        given = self.given
        base = self._base()
        own = Limits(prompt=given.max_prompt, output=given.max_output)
        limits = Limits(own.prompt or base.limits.prompt, own.output or base.limits.output)
        arrivals = given.arrivals or base.arrivals
        if isinstance(arrivals, ReplayArrivals):
            self._check_replay(base.sampler)
        return Workload(
            name=given.name or _label(given, base.name),
            sampler=base.sampler,
            arrivals=arrivals,
            limits=limits,
            stretches=self._stretches(limits) or base.stretches,
            description=given.description or base.description,
            source=given.source or base.source,
        )

    def _base(self) -> Workload:
        """What the given overrides are laid over: another workload, or bare lengths."""
        given = self.given
        if given.base is not None:
            return self._other(given.base, ("base",) if "base" in self.content else ("name",))
        if given.path is not None:
            trace = TraceLengths(kind="trace", path=given.path, columns=given.columns)
            return Workload(name=_stem(given.path), sampler=self._sampler(trace, ("path",)))
        if given.lengths is not None:
            return Workload(name="", sampler=self._sampler(given.lengths, ("lengths",)))
        first = given.segments[0]
        lengths = self._part(first.workload, first.lengths, ("segments", 0))
        return Workload(name="", sampler=lengths.sampler)

    def _stretches(self, limits: Limits) -> tuple[Stretch, ...]:
        found = []
        for index, segment in enumerate(self.given.segments):
            if segment.workload is None and segment.lengths is None:
                found.append(Stretch(segment, None, limits))
                continue
            other = self._part(segment.workload, segment.lengths, ("segments", index))
            tighter = Limits(_least(limits.prompt, other.limits.prompt), _least(limits.output, other.limits.output))
            found.append(Stretch(segment, other.sampler, tighter))
        return tuple(found)

    def _part(self, name: str | None, lengths: Lengths | None, key: Path_) -> Workload:
        if name is not None:
            return self._other(name, (*key, "workload"))
        assert lengths is not None  # noqa: S101  the nouns hold that
        return Workload(name="", sampler=self._sampler(lengths, (*key, "lengths")))

    def _sampler(self, lengths: Lengths, key: Path_) -> Sampler:
        match lengths:
            case ConstantLengths():
                return Constant(lengths)
            case LognormalLengths():
                return Lognormals(lengths)
            case TableLengths():
                return read_table(self._file(lengths.path, key))
            case TraceLengths():
                return read_rows(self._file(lengths.path, key), lengths.columns)
            case MixtureLengths():
                return self._mixture(lengths.parts, key)

    def _mixture(self, parts: tuple[Part, ...], key: Path_) -> Sampler:
        found = [
            self._part(part.workload, part.lengths, (*key, "parts", index)).sampler for index, part in enumerate(parts)
        ]
        return Mixture(tuple(part.weight for part in parts), tuple(found))

    def _other(self, name: str, key: Path_) -> Workload:
        try:
            return _load(name, self.beside, None, (), self.seen)
        except SpecError as error:
            raise self._named(error, key) if error.file is None else error from None

    def _file(self, path: str, key: Path_) -> Path:
        for folder in (self.beside, Path()):
            if folder is not None and (folder / path).is_file():
                return folder / path
        remedy = "give a path from the folder of this file or from the working folder"
        raise self._named(SpecError("no such file", value=path, remedy=remedy), key)

    def _check_replay(self, sampler: Sampler) -> None:
        if self.given.segments:
            raise self._named(SpecError("replay cannot follow segments"), ("arrivals",))
        if not isinstance(sampler, Rows) or sampler.arrival_s is None:
            reason = "replay needs timestamps, and these lengths have none"
            remedy = (
                "give path: a trace file with an arrival column ('harness trace fetch azure' gets the Azure traces)"
            )
            raise self._named(SpecError(reason, remedy=remedy), ("arrivals",))

    def _named(self, error: SpecError, key: Path_) -> SpecError:
        """The same error, said of ``key`` of this mapping."""
        line = document.line_of(self.content, key)
        where = document.dotted((*self.at, *key))
        return SpecError(error.reason, file=self.file, line=line, key=where, value=error.value, remedy=error.remedy)


def _least(first: int | None, second: int | None) -> int | None:
    return min((value for value in (first, second) if value is not None), default=None)


def _stem(path: str) -> str:
    return Path(path.removesuffix(".gz")).stem


def _label(given: WorkloadFile, base: str) -> str:
    """``azure-code[arrivals=gamma,cv=4.0]``: the base with what was laid over it, so that variants have names of their own."""
    changes = given.model_dump(exclude_defaults=True, include={"arrivals", "max_prompt", "max_output"})
    arrivals = changes.pop("arrivals", None)
    said = []
    if given.arrivals is not None and not isinstance(given.arrivals, PoissonArrivals):
        kind = given.arrivals.kind
        said += [f"arrivals={kind}", *(f"{key}={value:g}" for key, value in arrivals.items() if key != "kind")]
    said += [f"{key}={value}" for key, value in changes.items()]
    said += ["segments"] if given.segments else []
    return f"{base}[{','.join(said)}]" if said and base else base
