"""Questions of RULER (qa_1 of SQuAD, qa_2 of HotpotQA): a paragraph that answers, among others.

Needs the published files: SQuAD's JSON (`dev-v2.0.json`; those that have no answer are left out),
and HotpotQA's (`hotpot_dev_distractor_v1.json`). Ours differs: of HotpotQA the paragraphs that
answer always stand in the prompt, and the eight that come with them where there is room. A wanted
depth is that of the first paragraph that answers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lengthwise.documents.encodings import decode
from lengthwise.errors import DocumentError
from lengthwise.evaluation.tasks.benchmark import Sample, Wanted, largest, shuffled
from lengthwise.evaluation.tasks.generated._shared.pairs import placed

MOST = 32
FILES = {
    "qa_1": ("squad.json", "dev-v2.0.json", "dev-v1.1.json"),
    "qa_2": ("hotpotqa.json", "hotpot_dev_distractor_v1.json"),
}
_INTRO = "Answer the question from the documents below. Give the answer alone.\n\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question. right: places of the paragraphs that answer; near: of others like them."""

    question: str
    answers: tuple[str, ...]
    right: tuple[int, ...]
    near: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """A data set: its paragraphs, each once, and its questions."""

    paragraphs: tuple[str, ...]
    asked: tuple[Asked, ...]


def file_of(task: str, data: str) -> Path | None:
    """The published file of a task; None where there is none.

    Args:
        task: "qa_1" or "qa_2".
        data: a folder, or one file, which serves the task that its name says.
    """
    given = Path(data)
    places = [given / name for name in FILES[task]] if given.is_dir() else [given]
    found = [each for each in places if data and each.is_file() and each.name in FILES[task]]
    return found[0] if found else None


def questions(task: str, wanted: Wanted, path: Path) -> Iterator[Sample]:
    """Samples of a question each.

    Args:
        task: "qa_1" or "qa_2".
        wanted: how long and how many.
        path: of the published file.

    Raises:
        DocumentError: for a file that is not of its form.
    """
    data = read(task, str(path), path.stat().st_mtime_ns)
    order = shuffled(range(len(data.asked)), random.Random(f"{task} {wanted.seed}"))
    for number, draw in enumerate(wanted.draws(f"ruler/{task}")):
        asked = data.asked[order[number % len(order)]]
        near, taken = shuffled(asked.near, draw), {*asked.right, *asked.near}
        # The others round and round, from a drawn one on: none is looked at that is not shown.
        first = draw.randrange(len(data.paragraphs))
        seed = draw.getrandbits(64)
        others = len(data.paragraphs) - len(taken) + len(near)

        def build(
            units: int, asked: Asked = asked, near: Seq[int] = near, taken: set[int] = taken,
            first: int = first, seed: int = seed,
        ) -> Sample:  # fmt: skip
            count = units - len(asked.right)
            around = list(near[:count])
            at = first
            while len(around) < count:
                if at not in taken:
                    around.append(at)
                at = (at + 1) % len(data.paragraphs)
            return _sample(data, asked, around, random.Random(seed), wanted.depth)

        least = len(asked.right)
        yield largest(wanted, build, least, least + others)


def _sample(
    data: Published, asked: Asked, around: Seq[int], draw: random.Random, depth: float | None
) -> Sample:
    depths = [draw.random() for _ in asked.right]
    depths[0] = depths[0] if depth is None else depth
    order, places = placed(shuffled(around, draw), asked.right, depths)
    texts = [f"Document {n}:\n{data.paragraphs[each]}" for n, each in enumerate(order, 1)]
    where = places[0] / max(1, len(order) - 1)
    question = f"Answer the question from the documents above.\nQuestion: {asked.question}"
    said = _INTRO + "\n\n".join(texts)
    return Sample(said, question, asked.answers, MOST, "Answer:", where, own="")


@lru_cache(maxsize=2)
def read(task: str, path: str, changed: int) -> Published:
    """A published file.

    Args:
        task: "qa_1" or "qa_2", which says its form.
        path: of the file.
        changed: when, so that another file of the name is read again.

    Raises:
        DocumentError: for a file that is not of its form.
    """
    name = Path(path).name
    try:
        text = decode(Path(path).read_bytes(), name)
        found = (_squad if task == "qa_1" else _hotpot)(json.loads(text))
    except OSError as error:
        raise DocumentError(f"cannot read {name}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        form = FILES[task][-1 if task == "qa_2" else 1]
        raise DocumentError(f"{name} is not of the form of {form}: {error!r}") from error
    if not found.asked:
        raise DocumentError(f"{name} holds no question with an answer")
    return found


def _squad(whole: Any) -> Published:
    paragraphs: dict[str, int] = {}
    asked = []
    for article in whole["data"]:
        own = [paragraphs.setdefault(p["context"], len(paragraphs)) for p in article["paragraphs"]]
        for place, paragraph in zip(own, article["paragraphs"], strict=True):
            near = tuple(dict.fromkeys(each for each in own if each != place))
            for each in paragraph["qas"]:
                answers = tuple(dict.fromkeys(answer["text"] for answer in each["answers"]))
                if answers and not each.get("is_impossible"):
                    asked.append(Asked(each["question"], answers, (place,), near))
    return Published(tuple(paragraphs), tuple(asked))


def _hotpot(whole: Any) -> Published:
    paragraphs: dict[str, int] = {}
    asked = []
    for each in whole:
        own: dict[str, int] = {}
        for title, said in each["context"]:
            text = f"{title}\n{''.join(said)}"
            own[title] = paragraphs.setdefault(text, len(paragraphs))
        right = _told(each, own)
        near = tuple(dict.fromkeys(place for place in own.values() if place not in right))
        asked.append(Asked(each["question"], (each["answer"],), right, near))
    return Published(tuple(paragraphs), tuple(asked))


def _told(record: Mapping[str, Any], own: Mapping[str, int]) -> tuple[int, ...]:
    """The paragraphs that answer; all of them where a file does not say."""
    titles = dict.fromkeys(title for title, _ in record.get("supporting_facts", ()))
    return tuple(own[title] for title in titles if title in own) or tuple(own.values())


__all__ = ["FILES", "Asked", "Published", "file_of", "questions", "read"]
