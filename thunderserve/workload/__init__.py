"""Traces: request lengths and arrival times, drawn from a seed or replayed, the same on every machine.

``load`` turns a name, a path or a mapping into a ``Workload``; ``Workload.trace`` makes the requests.
"""

from thunderserve.workload.build import load
from thunderserve.workload.file import WorkloadFile
from thunderserve.workload.workload import Workload

__all__ = ["Workload", "WorkloadFile", "load"]
