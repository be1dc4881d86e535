"""One model, one task, many codecs: every question is prefilled once and answered under each codec in the same batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from eval import perplexity, tasks
from eval.answering import Answering, Handed, encode, encode_pair, fitted
from eval.contract import RAW, Answer, Ask
from eval.decode import Ended
from eval.prefill import Tokens
from eval.score import divergence
from eval.weights import Weights, load
from thunderserve.engine.checkpoint.locate import locate

Progress = Callable[[int, int], None]
DEFAULT_LENGTH = 256
"""Tokens generated at most where a task does not say, as in lm-eval."""


class Question(NamedTuple):
    """One document of a task, with what is asked of the model about it."""

    number: int
    document: dict[str, Any]
    requests: list[Any]


def measure(
    ask: Ask,
    *,
    skip: Collection[tuple[int, str]] = (),
    progress: Progress | None = None,
    weights: Weights | None = None,
) -> Iterator[Answer]:
    """Answers to all questions, a question's codecs together, in order; but those in ``skip``, pairs of question and codec.

    Every question is answered under ``raw``, also where that is skipped: the divergence is counted from it.

    Raises:
        SpecError: the model, the codec or the data cannot be had.
        FloatingPointError: a value was not finite; such an answer is never scored.
    """
    torch.set_num_threads(ask.threads)
    loaded = weights if weights is not None else load(locate(ask.model), dtype=ask.dtype, device=ask.device)
    codecs = tuple(dict.fromkeys((RAW, *ask.codecs)))
    answering = Answering(loaded, codecs, ask.wire_dtype)
    known = frozenset(skip)
    if ask.task == "perplexity":
        source = perplexity.answers(answering, ask, codecs, known, progress)
    else:
        source = _task_answers(answering, ask, codecs, known, progress)
    for answer in source:
        if (answer.question, answer.codec) not in known and answer.codec in ask.codecs:
            yield answer


def _task_answers(
    answering: Answering,
    ask: Ask,
    codecs: tuple[str, ...],
    known: frozenset[tuple[int, str]],
    progress: Progress | None,
) -> Iterator[Answer]:
    task = tasks.build(ask.task, ask.data)
    questions = _questions(task, ask)
    open_ = [q for q in questions if not all((q.number, codec) in known for codec in ask.codecs)]
    done = len(questions) - len(open_)
    for first in range(0, len(open_), ask.batch):
        some = open_[first : first + ask.batch]
        yield from _answers(answering, task, ask.task, some, codecs)
        done += len(some)
        if progress is not None:
            progress(done, len(questions))


def _questions(task: Any, ask: Ask) -> list[Question]:
    documents = list(task.eval_docs)
    indices = tasks.chosen(len(documents), ask.limit, ask.seed)
    task.build_all_requests(samples=indices)
    # lm-eval counts the documents it was given, whatever their index; both rise.
    numbers = dict(zip(sorted({instance.doc_id for instance in task.instances}), indices, strict=True))
    requests: dict[int, list[Any]] = {index: [] for index in indices}
    for instance in task.instances:
        requests[numbers[instance.doc_id]].append(instance)
    return [Question(index, documents[index], requests[index]) for index in indices]


def _answers(
    answering: Answering, task: Any, name: str, some: Sequence[Question], codecs: tuple[str, ...]
) -> Iterator[Answer]:
    """The answers to a batch of questions. All requests of a question have the same context."""
    generating = task.OUTPUT_TYPE == "generate_until"
    asked = [_asked(answering, task, question, generating=generating) for question in some]
    handed = answering.hand_over([context for context, _ in asked], codecs)
    texts: list[dict[str, Ended]] = [{} for _ in some]
    if generating:
        texts = _generate(answering, some, handed, codecs)
    for question, (context, continuations), received, said in zip(some, asked, handed, texts, strict=True):
        likelihoods = answering.likelihoods([received[codec] for codec in codecs], continuations, keep=True)
        seen = dict(zip(codecs, likelihoods, strict=True))
        for codec in codecs:
            results = [(one.total, one.greedy) for one in seen[codec]] if not generating else [said[codec].text]
            yield Answer(
                question=question.number,
                codec=codec,
                scores=_scores(task, question, results),
                output=said[codec].text if generating else None,
                output_tokens=said[codec].tokens if generating else 0,
                loglikelihoods=tuple(one.total for one in seen[codec]),
                continuation_tokens=tuple(map(len, continuations)),
                kl=divergence(seen[RAW], seen[codec]),
                context_tokens=len(context) - 1,
                raw_bytes=received[codec].raw_bytes,
                wire_bytes=received[codec].wire_bytes,
                group=tasks.group_of(name, question.document, question.number),
            )


def _asked(answering: Answering, task: Any, question: Question, *, generating: bool) -> tuple[Tokens, list[Tokens]]:
    """The context of a question, and the continuations whose likelihood is wanted: the choices, or the reference answer."""
    weights = answering.weights
    if not generating:
        pairs = [encode_pair(weights, *request.args) for request in question.requests]
        room = max(len(continuation) for _, continuation in pairs)
        if len({context for context, _ in pairs}) != 1:
            raise ValueError("the choices of a question do not share their context")
        return fitted(weights, pairs[0][0], room), [continuation for _, continuation in pairs]
    prompt, arguments = question.requests[0].args
    _, longest = tasks.stops_of(arguments)
    context = fitted(weights, encode(weights, prompt), longest or DEFAULT_LENGTH)
    _, reference = encode_pair(weights, prompt, tasks.reference_of(task, question.document))
    return context, [reference[: longest or DEFAULT_LENGTH]]


def _generate(
    answering: Answering, some: Sequence[Question], handed: Sequence[dict[str, Handed]], codecs: tuple[str, ...]
) -> list[dict[str, Ended]]:
    stops, longest = tasks.stops_of(some[0].requests[0].args[1])
    rows = [received[codec] for received in handed for codec in codecs]
    ended = answering.generate(rows, stops=stops, max_tokens=longest or DEFAULT_LENGTH)
    width = len(codecs)
    return [dict(zip(codecs, ended[i * width : (i + 1) * width], strict=True)) for i in range(len(some))]


def _scores(task: Any, question: Question, results: Sequence[Any]) -> dict[str, float]:
    """The task's own metrics, after its own filters; a metric's name carries the filter where there is more than one."""
    instances = []
    for request, result in zip(question.requests, results, strict=True):
        instance = copy.copy(request)
        instance.resps, instance.filtered_resps = [result], {}
        instances.append(instance)
    found: dict[str, float] = {}
    for ensemble in task._filters:
        ensemble.apply(instances)
        filtered = [instance.filtered_resps[ensemble.name] for instance in instances]
        for metric, value in task.process_results(question.document, filtered).items():
            name = metric if len(task._filters) == 1 else f"{metric},{ensemble.name}"
            if isinstance(value, (int, float)):
                found[name] = float(value)
    return found
