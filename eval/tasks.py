"""lm-eval's own task definitions, fed from the hub or from local files of the same schema."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from thunderserve.spec.errors import SpecError


class Source(NamedTuple):
    """Local files of one task, by split, and what else must be said so that its definition takes them."""

    files: dict[str, str]
    settings: Mapping[str, Any] = MappingProxyType({})


DEFINITIONS = {
    "coqa": "coqa/default.yaml",
    "truthfulqa_gen": "truthfulqa/truthfulqa_gen.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
}
"""Where lm-eval keeps them."""
CONVERSATIONS = "coqa/coqa_subset_turns.validation.jsonl"
LOCAL = {
    "coqa": Source({"validation": CONVERSATIONS}, {"training_split": None}),
    "truthfulqa_gen": Source({"validation": "truthfulqa/generation.validation.jsonl"}),
    "truthfulqa_mc1": Source({"validation": "truthfulqa/multiple_choice.validation.jsonl"}),
    "truthfulqa_mc2": Source({"validation": "truthfulqa/multiple_choice.validation.jsonl"}),
    "gsm8k": Source({"train": "gsm8k/train.jsonl", "test": "gsm8k/test.jsonl"}),
}
"""Task -> its files below a data folder. CoQA's has one line a turn, because the task asks the last question of each line."""


FEWSHOT_SEED = 1234
"""Of the choice of solved questions before a question, as lm-eval's evaluator has it."""


def build(task: str, data: str | None) -> Any:
    """The ``ConfigurableTask`` of lm-eval called ``task``.

    Raises:
        SpecError: a local file is missing.
    """
    _restore_squad_metrics()
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    # Asking lm-eval's TaskManager for the file would index its thousands of tasks first, for a quarter of a minute.
    config = dict(load_yaml(Path(lm_eval.tasks.__file__).parent / DEFINITIONS[task]))
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    if data is not None:
        source = LOCAL[task]
        files = {split: str(_found(Path(data) / name)) for split, name in source.files.items()}
        config |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
        config |= dict(source.settings)
    built = ConfigurableTask(config=config)
    built.set_fewshot_seed(FEWSHOT_SEED)
    return built


def _found(path: Path) -> Path:
    if not path.is_file():
        raise SpecError("no such file", file=path, remedy="give the folder that holds it, or no folder to use the hub")
    return path


def chosen(count: int, limit: int | None, seed: int) -> list[int]:
    """Which of ``count`` questions: the first ``limit`` for seed 0, as lm-eval takes them; else a random choice, in order."""
    size = count if limit is None else min(limit, count)
    if seed == 0:
        return list(range(size))
    return sorted(np.random.default_rng(seed).choice(count, size, replace=False).tolist())


def group_of(task: str, document: dict[str, Any], index: int) -> str:
    """Which questions belong together: the turns of a conversation are not independent of one another."""
    return str(document.get("id", index)) if task == "coqa" else str(index)


def reference_of(task: Any, document: dict[str, Any]) -> str:
    """The answer that a generating task has on file, as the model should say it after its prompt.

    ``truthfulqa_gen`` defines an empty target, as nothing is to be matched; its document has a best answer.
    """
    target = task.doc_to_target(document)
    first = str(target[0] if isinstance(target, list) else target).strip()
    return f"{task.config.target_delimiter.rstrip(' ')} {first or document['best_answer']}"


def stops_of(arguments: dict[str, Any]) -> tuple[list[str], int | None]:
    """The stop strings and the length limit of a generation request."""
    until = arguments.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    return stops, arguments.get("max_gen_toks")


def _restore_squad_metrics() -> None:
    """lm-eval's CoQA imports two functions from a module that transformers 5 no longer has; they are written anew here.

    They are the official SQuAD metrics (Rajpurkar et al. 2016): exact match and F1 over normalised words.
    """
    name = "transformers.data.metrics.squad_metrics"
    try:
        __import__(name)
    except ImportError:
        from eval import squad

        functions: tuple[Callable[..., Any], ...] = (squad.compute_exact, squad.compute_f1)
        parent = types.ModuleType("transformers.data.metrics")
        module = types.ModuleType(name)
        for function in functions:
            setattr(module, function.__name__, function)
        sys.modules.setdefault("transformers.data.metrics", parent)
        sys.modules[name] = module
