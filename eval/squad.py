"""SQuAD's exact match and F1 (Rajpurkar et al., EMNLP 2016): words, without case, punctuation and articles."""

from __future__ import annotations

import re
import string
from collections import Counter

ARTICLES = re.compile(r"\b(a|an|the)\b")


def words(text: str) -> list[str]:
    """``text`` as SQuAD compares it."""
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return ARTICLES.sub(" ", plain).split()


def compute_exact(gold: str, predicted: str) -> int:
    """1 if both are the same words in the same order."""
    return int(words(gold) == words(predicted))


def compute_f1(gold: str, predicted: str) -> float:
    """Harmonic mean of precision and recall over words; where one has none, 1 if both have none."""
    expected, found = words(gold), words(predicted)
    if not expected or not found:
        return float(expected == found)
    common = sum((Counter(expected) & Counter(found)).values())
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(expected)
    return 2 * precision * recall / (precision + recall)
