"""CRAG: topics that are left of many reviews, and what it keeps of what is planted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from benchmarks.reproduction.harness import Found, check, load
from benchmarks.reproduction.prompting.evidence import COLUMNS, LENGTH, row

from lengthwise.api.text_model import LocalText
from lengthwise.methods.prompts import GAP
from lengthwise.recipes import parse

# Reviews of a telephone: a topic is what is spoken of, by the words that name it.
TOPICS = {
    "battery": (
        ("The battery", "Its battery", "After a month the battery", "On trips the battery"),
        ("lasts two days on one charge.", "is flat by noon and charges slowly.",
         "drains fast while calling.", "charges in an hour and holds well.",
         "gets hot while it charges."),
    ),
    "screen": (
        ("The screen", "Its screen", "Outdoors the screen", "In the evening the screen"),
        ("is bright and shows sharp colours.", "scratches too easily.",
         "flickers when the brightness is low.", "is large enough to read books.",
         "reflects so much light that I see nothing."),
    ),
    "parcel": (
        ("The parcel", "My parcel", "Ordered on Monday, the parcel", "Before Christmas the parcel"),
        ("came a day early and well wrapped.", "was left in the rain by the courier.",
         "arrived two weeks late.", "was lost, and the shop sent another one.",
         "came with a torn box and no receipt."),
    ),
}  # fmt: skip
TOPICS_LEFT, SHARE, READ = "topics left of 3", "tokens left, %", "tokens read"


def reviews() -> list[str]:
    """Sixty of them, twenty on each topic in turn."""
    each = [[f"{start} {end}" for start, end in product(*parts)] for parts in TOPICS.values()]
    return [review for together in zip(*each, strict=True) for review in together]


@check(
    {"recipe": "", TOPICS_LEFT: "", SHARE: ".1f", READ: ","},
    evidence=COLUMNS,
)
def crag(encoder: str, length: int = LENGTH, seeds: int = 1) -> Iterator[Found]:
    """Topics left of sixty reviews, and evidence kept in one long document. The encoder is the
    folder of one."""
    for options in ("budget=5%, summary=nearest, k=3", "budget=19%, summary=nearest, k=3",
                    "budget=19%, summary=nearest", "budget=19%, k=3", "budget=19%"):  # fmt: skip
        yield _reviewed("crag", options, encoder)
    yield _reviewed("dense", "budget=19%", encoder)
    for options in ("budget=10%, summary=nearest", "budget=10%"):
        found = row(f'crag({options}, encoder="{encoder}")', length, seeds)
        yield "evidence", found | {"recipe": f"`crag({options})`"}
    yield "evidence", row("bm25(budget=10%)", length, seeds)
    found = row(f'dense(budget=10%, encoder="{encoder}")', length, seeds)
    yield "evidence", found | {"recipe": "`dense(budget=10%)`"}


def _reviewed(name: str, options: str, encoder: str) -> dict[str, object]:
    documents, model = reviews(), LocalText(load())
    method = parse(f'{name}({options}, encoder="{encoder}")').prompting
    assert method is not None
    found = method.write_prompt(documents, "What do people say about the battery?", model)
    count = model.count(found.text)
    return {
        "recipe": f"`{name}({options})`",
        TOPICS_LEFT: sum(topic in found.text.casefold() for topic in TOPICS),
        SHARE: 100 * count / model.count(GAP.join(documents)),
        READ: model.tokens_read + count,
    }
