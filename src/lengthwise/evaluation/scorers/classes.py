"""Class labels: found in a reply, equal to it, or counted over many replies.

label_in_prediction  LongBench (Bai and others, 2023, arXiv:2308.14508)
label_exact          LongICLBench (Li and others, 2024, arXiv:2404.02060)
entity_f1, relation_f1  its Few-NERD and DialogRE, over all replies together; counts of each reply
id_f1                M4LE (Kwan and others, 2023, arXiv:2310.19240)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence as Seq
from dataclasses import dataclass

# DialogRE is scored up to the reply that brings the labels to this number.
MOST_LABELS = 500


def label_in_prediction(
    reply: str, references: Seq[str], *, labels: Seq[str], compat: bool = False
) -> float:
    """One over the number of class names in a reply, if the right one is among them.

    LongBench's class score (arXiv:2308.14508). Names that are parts of the right one do not count.

    Args:
        reply: by a model.
        references: right names; the best counts.
        labels: names of all classes.
        compat: names are taken from the list that is being read, as in the released code, which
            then passes over the next one: of two parts of the right name in a row one stays.

    Returns:
        0 to 1.
    """
    named = [each for each in labels if each in reply]
    return max((_class_share(named, right, compat) for right in references), default=0.0)


def label_exact(reply: str, references: Seq[str]) -> float:
    """Whether the first line is the label, case aside: LongICLBench (arXiv:2404.02060).

    Args:
        reply: by a model.
        references: right labels.

    Returns:
        0 or 1.
    """
    said = reply.strip().split("\n")[0].lower().strip()
    return float(said in [each.lower() for each in references])


def id_f1(reply: str, references: Seq[str], *, marks: str = ",", end: str = ".") -> float:
    """F1 of a list of ids as sets: M4LE's cls_f1 (arXiv:2310.19240).

    Args:
        reply: ids with a mark between, up to an end mark.
        references: right ids.
        marks: what stands between ids; of Chinese tasks it is a full-width comma.
        end: what ends the list; of Chinese tasks it is a Chinese full stop.

    Returns:
        0 to 1.
    """
    said = {each.strip() for each in re.split(f"[{re.escape(marks)}]", reply.split(end)[0].strip())}
    right = set(references)
    return 2 * len(said & right) / (len(said) + len(right))


@dataclass(frozen=True, slots=True)
class Counts:
    """Labels that are right, that were said, and that were wanted."""

    right: int
    said: int
    wanted: int

    @property
    def f1(self) -> float:
        """Micro F1; 0 where nothing is right, for which the released code divides by zero."""
        return 2 * self.right / (self.said + self.wanted) if self.right else 0.0


def entity_counts(said: Mapping[str, str], right: Mapping[str, str]) -> Counts:
    """Entities with their types in one reply: Few-NERD in LongICLBench (arXiv:2404.02060).

    Args:
        said: types by entity.
        right: the right ones.
    """
    hits = sum(right.get(entity) == kind for entity, kind in said.items())
    return Counts(hits, len(said), len(right))


def entity_f1(predictions: Seq[Mapping[str, str]], references: Seq[Mapping[str, str]]) -> float:
    """Micro F1 of entities and their types: Few-NERD in LongICLBench (arXiv:2404.02060).

    Args:
        predictions: types by entity, one mapping a reply.
        references: right types by entity, in the same order.

    Returns:
        0 to 1; 0 where nothing is right, for which the released code divides by zero.
    """
    pairs = zip(predictions, references, strict=True)
    return _together(entity_counts(said, right) for said, right in pairs).f1


def read_entities(reply: str, sentence: str = "", *, compat: bool = False) -> dict[str, str]:
    """Types by entity, as a reply lists them: Few-NERD in LongICLBench (arXiv:2404.02060).

    Read are lines with a colon and a space, up to the first other one or the next sentence.

    Args:
        reply: by a model.
        sentence: in which they were to be found; what a reply says before it is left out.
        compat: the type stands between the first colon and the next, as in the released code, which
            finds none of an entity with a colon of its own. Without, it is behind the last.
    """
    text = reply.split(sentence)[-1] if sentence and sentence in reply else reply
    found: dict[str, str] = {}
    for line in text.strip().split("\n"):
        if ": " not in line or line.startswith(("Sentence", "sentence")):
            break
        entity, kind = line.split(": ")[:2] if compat else line.rsplit(": ", 1)
        found[entity] = kind
    return found


def relation_counts(reply: str, reference: str, relations: Seq[str]) -> Counts:
    """Relations of one reply, matched by place: DialogRE in LongICLBench (arXiv:2404.02060).

    Args:
        reply: relations with commas between.
        reference: right ones, written the same way.
        relations: all that there are; an item without one does not count as said.
    """
    said = [each.strip() for each in reply.split(",")]
    right = [each.strip() for each in reference.split(",")]
    hits = sum(label in each for label, each in zip(right, said, strict=False))
    return Counts(hits, sum(any(known in each for known in relations) for each in said), len(right))


def relation_f1(
    replies: Seq[str], references: Seq[str], *, relations: Seq[str], most: int = MOST_LABELS
) -> float:
    """Micro F1 of relations, matched by place: DialogRE in LongICLBench (arXiv:2404.02060).

    An item is right if the label at its place stands in it. Items without a known relation do not
    count as predicted.

    Args:
        replies: relations with commas between, one text a reply.
        references: right ones, written the same way.
        relations: all that there are.
        most: labels after which no further reply is read.

    Returns:
        0 to 1.
    """
    found: list[Counts] = []
    for reply, reference in zip(replies, references, strict=True):
        found.append(relation_counts(reply, reference, relations))
        if sum(each.wanted for each in found) >= most:
            break
    return _together(found).f1


def _class_share(named: Seq[str], right: str, compat: bool) -> float:
    left = list(named)
    if compat:
        place = 0
        while place < len(left):
            if left[place] in right and left[place] != right:
                left.remove(left[place])  # The next one moves to this place, and is not read.
            place += 1
    else:
        left = [each for each in named if each not in right or each == right]
    return 1 / len(left) if right in left else 0.0


def _together(counts: Iterable[Counts]) -> Counts:
    found = list(counts)
    return Counts(
        sum(each.right for each in found), sum(each.said for each in found),
        sum(each.wanted for each in found),
    )  # fmt: skip


__all__ = [
    "MOST_LABELS", "Counts", "entity_counts", "entity_f1", "id_f1", "label_exact",
    "label_in_prediction", "read_entities", "relation_counts", "relation_f1",
]  # fmt: skip
