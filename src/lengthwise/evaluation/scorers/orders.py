"""Orders: permutations, lists that must match from the front, rankings.

permutation      Ada-LEval's TSort (Wang and others, 2024, arXiv:2404.06480)
list_prefix      partial scores of LongProc (Ye and others, 2025, arXiv:2501.05414)
ndcg, mrr, recall  re-ranking in HELMET (Yen and others, 2024, arXiv:2410.02694), by the
                 definitions of trec_eval
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence as Seq
from itertools import permutations

CUT = 10


def permutation(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """Whether a reply gives the right order: Ada-LEval's TSort (arXiv:2404.06480).

    Read is what follows "Answer:", as a JSON list; else the one permutation whose digits stand in
    the reply in its order, if there is just one.

    Args:
        reply: by a model.
        references: right orders as JSON, such as "[2, 1, 4, 3]".
        compat: a shorter list counts if it is right as far as it goes, so that "[]" is always
            right. Without, the lists must be equal.

    Returns:
        0 or 1.
    """
    right = [json.loads(each) for each in references]
    said = _order(reply, len(right[0]))
    if not compat:
        return float(said in right)
    if not isinstance(said, Iterable):
        return 0.0
    items = list(said)
    return float(any(all(map(lambda a, b: a == b, each, items)) for each in right))


def matched_prefix(said: Seq[object], right: Seq[object]) -> float:
    """The index of the first item that differs or is missing, over the number of right items.

    Args:
        said: items of a reply.
        right: the right ones.

    Returns:
        0 to 1; 1 also where the reply goes on.
    """
    if not right:
        return float(not said)
    pairs = zip(said, right, strict=False)
    hits = next((n for n, (given, each) in enumerate(pairs) if given != each), None)
    return (min(len(said), len(right)) if hits is None else hits) / len(right)


def list_prefix(reply: str, references: Seq[str]) -> float:
    """How far the lines of a reply are right, from the front: LongProc (arXiv:2501.05414).

    Args:
        reply: by a model; empty lines and outer spaces do not count.
        references: the right lines.

    Returns:
        0 to 1.
    """
    said = [line.strip() for line in reply.splitlines() if line.strip()]
    return matched_prefix(said, [each.strip() for each in references])


def ranking(reply: str) -> list[str]:
    """Ids of a ranking such as "3 > 1 > 2": HELMET (arXiv:2410.02694).

    Brackets, colons and "ID" do not count. The longest such run is read, and the first of the same
    ids.

    Args:
        reply: by a model.

    Returns:
        Ids, best first; one that no document has where the reply has none.
    """
    text = re.sub(r"[\[\]:]", "", reply).lower().replace("id", "")
    runs = re.findall(r"\d+(?:\s*>\s*\d+)*", text)
    if not runs:
        return [text]
    longest = max(runs, key=len)
    return list(dict.fromkeys(each.strip() for each in longest.split(">")))


def ndcg(
    reply: str,
    references: Seq[str],
    *,
    k: int = CUT,
    grades: Mapping[str, float] | None = None,
) -> float:
    """Normalised discounted cumulative gain of a ranking: HELMET (arXiv:2410.02694).

    DCG = sum of grade / log2(rank + 1) over the first k; divided by that of the best order.

    Args:
        reply: a ranking, as `ranking` reads it.
        references: relevant ids.
        k: how many count.
        grades: of ids, above 0 where relevant; without, all references have grade 1.

    Returns:
        0 to 1.
    """
    graded = dict.fromkeys(references, 1.0) if grades is None else grades
    best = _dcg(sorted((max(each, 0) for each in graded.values()), reverse=True)[:k])
    gains = [max(graded.get(each, 0), 0) for each in ranking(reply)[:k]]
    return _dcg(gains) / best if best else 0.0


def mrr(reply: str, references: Seq[str]) -> float:
    """One over the rank of the first relevant id: HELMET (arXiv:2410.02694).

    Args:
        reply: a ranking, as `ranking` reads it.
        references: relevant ids.

    Returns:
        0 to 1; 0 where none is named.
    """
    ranks = (rank for rank, each in enumerate(ranking(reply), 1) if each in references)
    return 1 / next(ranks, math.inf)


def recall(reply: str, references: Seq[str], *, k: int = CUT) -> float:
    """The share of relevant ids among the first k: HELMET (arXiv:2410.02694).

    Args:
        reply: a ranking, as `ranking` reads it.
        references: relevant ids.
        k: how many count.

    Returns:
        0 to 1.
    """
    wanted = set(references)
    return len(wanted & set(ranking(reply)[:k])) / len(wanted) if wanted else 0.0


def _order(reply: str, count: int) -> object:
    _, stated, behind = reply.partition("Answer:")
    text = behind.split("Answer:")[0].strip() if stated else reply
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        orders = permutations(range(1, count + 1))
        found = [list(each) for each in orders if _in_order(map(str, each), text)]
        return found[0] if len(found) == 1 else None


def _in_order(digits: Iterable[str], text: str) -> bool:
    letters = iter(text)
    return all(digit in letters for digit in digits)


def _dcg(gains: Iterable[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


__all__ = [
    "CUT", "list_prefix", "matched_prefix", "mrr", "ndcg", "permutation", "ranking", "recall",
]  # fmt: skip
