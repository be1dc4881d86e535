"""Which engine ``harness serve`` starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thunderserve.spec.errors import SpecError, nearest

if TYPE_CHECKING:
    from thunderserve.engine.launch.plan import Wishes
    from thunderserve.spec.plan import Plan

ENGINES = ("thunderserve", "vllm")
READY_S = {"thunderserve": 300.0, "vllm": 900.0}
"""How long workers may take to come up."""
COMING_BACK_S = {"thunderserve": 60.0, "vllm": 300.0}
"""So long a request waits for a worker that is being started again: it loads its weights first."""


@dataclass(frozen=True)
class Given:
    """What the command line says. Refuses, with a SpecError, what does not go together."""

    engine: str
    python: str | None
    urls: tuple[str, ...]
    transport: str = "tcp"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise SpecError("no such engine", key="--engine", value=self.engine, remedy=nearest(self.engine, ENGINES))
        from thunderserve.engine.vllm.settings import TRANSPORTS

        if self.transport not in TRANSPORTS:
            remedy = nearest(self.transport, TRANSPORTS)
            raise SpecError("no such transport", key="--kv-transport", value=self.transport, remedy=remedy)
        other = self.transport if self.transport != "tcp" else ""
        for key, value in (
            ("--vllm-python", self.python), ("--attach", " ".join(self.urls)), ("--kv-transport", other)
        ):  # fmt: skip
            if value and self.engine != "vllm":
                raise SpecError("is for vLLM alone", key=key, value=value, remedy="add --engine vllm")

    @property
    def ready_s(self) -> float:
        """Patience at the start."""
        return READY_S[self.engine]

    @property
    def patience_s(self) -> float:
        """Patience for a worker that is being started again."""
        return COMING_BACK_S[self.engine]

    def staff(self, plan: Plan, name: str, model: str, wishes: Wishes) -> dict[str, Any]:
        """Arguments of a ``Launch``. Raises SpecError when vLLM is not there, or cannot serve the plan."""
        if self.engine != "vllm":
            return {}
        from thunderserve.engine.vllm.arguments import Instance
        from thunderserve.engine.vllm.launch import MODULE, Fleet, interpreter
        from thunderserve.engine.vllm.settings import Settings

        instance = Instance(
            model,
            name,
            dtype=wishes.dtype,
            device=wishes.device,
            max_context=wishes.max_context,
            kv_bytes=wishes.kv_bytes,
            settings=Settings(transport=self.transport),
        )
        python = "" if self.urls else interpreter(self.python)
        return {"module": MODULE, "staff": Fleet(plan, instance, python, self.urls).staff()}
