"""CAT-LM: a code file and its test in one sequence, the code first.

Rao et al., "CAT-LM: Training Language Models on Aligned Code And Tests", ASE 2023,
arXiv:2310.01602.

A pair is `code <|codetestpair|> test`, one piece that attention stays within. So the test is
predicted from the code that it tests. The pair token stands in the place of the code's end token.
Which files are a pair is found by their names (see `pairing`). All other files are pieces of their
own. Pieces are packed best-fit. Folders made before have the pair token `<|test|>`, as their
manifest says, and are read as before.

Where ours differs: the authors' example prompts have a line break behind the pair token. Here the
test follows as its file begins. They match names fuzzily; here equal names come first.

A pair longer than a row keeps its code whole and as much of the test as fits. The rest of the test
is a piece of its own. Code that fills a row alone has no room for a test: both stand alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from lengthwise._utils.counter_rng import Ints
from lengthwise._utils.papers import Paper
from lengthwise.methods.options import option
from lengthwise.sequences.builders.best_fit import cut, packed_units
from lengthwise.sequences.builders.plain import LONGEST, Plain
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.errors import NotAsAskedError
from lengthwise.sequences.files import written_aside
from lengthwise.sequences.orders import STRETCH, Order, Stored, count_of
from lengthwise.sequences.pairing import ALONE, partners
from lengthwise.sequences.rows import Built, Documents
from lengthwise.sequences.token_store import TokenStore

TOKEN = "<|codetestpair|>"
ENDS = "end tokens of code files, in whose place the pair token stands"


@dataclass
class Pair(Plain):
    """Rows of at most max_length tokens, no padding stored."""

    name: ClassVar[str] = "pair"
    paper: ClassVar[Paper] = Paper(
        "CAT-LM: Training Language Models on Aligned Code And Tests",
        "Rao et al.",
        2023,
        arxiv="2310.01602",
        venue="ASE",
        code="https://github.com/RaoNikitha/CAT-LM",
    )
    whole_documents: ClassVar[bool] = True
    document_mask: ClassVar[bool] = True

    max_length: int = option(8192, "tokens of a row at most", low=4, high=LONGEST)

    def __post_init__(self) -> None:
        self._token = 0
        self._partners: Path | None = None

    @property
    def tokens(self) -> tuple[str, ...]:
        return (TOKEN,)

    def prepare(self, store: TokenStore, encoder: Encoder, seed: int) -> None:
        super().prepare(store, encoder, seed)
        self._token = encoder.id_of(TOKEN)

    def arrange(self, order: Order, store: TokenStore, folder: Path) -> Order:
        """The same order with every test moved behind its code."""
        self._partners = partners(store, folder, order)
        if not (np.memmap(self._partners, np.int64, "r") >= 0).any():
            raise NotAsAskedError(
                "no file of the sources is the test of another by its name (cache.py and "
                "test_cache.py, in one repository): give folders of code files, or use the method "
                "best-fit"
            )
        path = folder / "paired.bin"
        if not path.exists():
            count = count_of(order, store)
            with written_aside(path) as aside, aside.open("wb") as file:
                for first in range(0, count, STRETCH):
                    numbers = order.documents(first, min(first + STRETCH, count))
                    file.write(self._followed(numbers).tobytes())
        return Stored(path, getattr(order, "left_out", {}))

    def inseparable(self, first: int, second: int) -> bool:
        return bool(self._partner(np.array([first]))[0] == second)

    def build(self, documents: Documents, part: int) -> Built:
        code = np.flatnonzero(self._partner(documents.numbers[:-1]) == documents.numbers[1:])
        found = len(code)
        # The code without its end token, the pair token and a token of the test at least.
        code = code[documents.lengths[code] < self.max_length]
        alone = np.ones(len(documents.numbers), bool)
        alone[code] = alone[code + 1] = False
        tests = documents.lengths[code + 1]
        here = np.minimum(tests, self.max_length - documents.lengths[code])
        cut_short = here < tests
        rests = code[cut_short] + 1
        singles = Documents(
            np.append(documents.numbers[alone], documents.numbers[rests]),
            np.append(documents.starts[alone], documents.starts[rests] + here[cut_short]),
            np.append(documents.lengths[alone], documents.lengths[rests] - here[cut_short]),
        )
        starts, lengths = cut(singles, self.max_length)
        parts = np.stack([documents.starts[code], np.full(len(code), -1 - self._token),
                          documents.starts[code + 1]], 1)  # fmt: skip
        sizes = np.stack([documents.lengths[code] - 1, np.ones_like(code), here], 1)
        rows = packed_units(np.append(parts.ravel(), starts), np.append(sizes.ravel(), lengths),
                            np.append(np.full(len(code), 3), np.ones_like(starts)),
                            self.max_length)  # fmt: skip
        written = int(sizes.sum() + lengths.sum())
        figures = {"pairs": len(code), "pairs_too_long": found - len(code),
                   "pairs_cut": int(cut_short.sum()), "tokens_added": len(code),
                   "padding": len(rows) * self.max_length - written}  # fmt: skip
        return Built({0: rows}, {ENDS: len(code)} if len(code) else {}, figures)

    def _partner(self, numbers: Ints) -> Ints:
        assert self._partners is not None, "arrange comes before build"
        return np.array(np.memmap(self._partners, np.int64, "r")[numbers])

    def _followed(self, numbers: Ints) -> Ints:
        """Code files with their tests behind them, other files alone, tests not by themselves."""
        partner = self._partner(numbers)
        counts = np.where(partner >= 0, 2, np.where(partner == ALONE, 1, 0))
        found = np.repeat(numbers, counts)
        behind = np.cumsum(counts)[partner >= 0] - 1
        found[behind] = partner[partner >= 0]
        return found
