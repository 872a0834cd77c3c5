"""The texts that a model learns to write: a flat list (AIGQ eq. 6), or reasons and then interests (eq. 7 - 9)."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.prompt import MOST_BEHAVIOURS, answer, content
from inference.vocabulary import END

LIST_LENGTH = 10
"""K: "the next 10 queries"."""
MOST_REASON_CHARACTERS = 160
LEADS_TO = " ->"


@dataclass(frozen=True)
class Interest:
    """(T_k -> Q_k) with its rationale r_k."""

    triggers: tuple[int, ...]
    """T_k: indices of behaviours as the prompt numbers them, 1 the oldest shown."""
    queries: tuple[str, ...]
    """Q_k, the likeliest first."""
    rationale: str = ""
    """r_k, as a teacher wrote it; empty where nobody did."""


def list_target(labels: Sequence[str]) -> str:
    """y of eq. 6: the labels in their order, at most LIST_LENGTH.

    A shorter list has no end: learning one would teach the model to stop early.
    """
    return answer(labels[:LIST_LENGTH]) + (END if len(labels) >= LIST_LENGTH else "")


def think_target(interests: Sequence[Interest]) -> str:
    """z = r_1 || ... || r_K || y of eq. 9: a line for every rationale, then one for every interest.

        the phone was looked at three times, without a case
        <2><5> -> iphone case;; iphone charger<end>

    Triggers are the tokens that number the behaviours in the prompt, so a model can copy them, and a trigger's tokens can be told
    from a query's. Raises ValueError for an interest that no prompt could lead to.
    """
    if not interests:
        raise ValueError("a Think sample has at least one interest")
    reasons = [f" {content(each.rationale, MOST_REASON_CHARACTERS)}" for each in interests if each.rationale]
    return "\n".join([*reasons, *map(_line, interests)]) + END


def _line(interest: Interest) -> str:
    shown = interest.triggers
    if not shown or list(shown) != sorted(set(shown)) or not 1 <= shown[0] <= shown[-1] <= MOST_BEHAVIOURS:
        raise ValueError(f"triggers are distinct, rising indices within 1 .. {MOST_BEHAVIOURS}, got {shown}")
    if not interest.queries or not all(map(content, interest.queries)):
        raise ValueError(f"an interest needs queries, none of them empty; triggers {shown} have {interest.queries}")
    return "".join(f"<{i}>" for i in shown) + LEADS_TO + answer(interest.queries)
