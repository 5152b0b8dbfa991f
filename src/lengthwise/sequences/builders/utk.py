"""Untie the Knots: documents cut into chunks that are shuffled over the row.

Tian et al., "Untie the Knots: An Efficient Data Augmentation Strategy for Long-Context Pre-Training
in Language Models", ACL 2025, arXiv:2409.04774.

To predict the start of a chunk the model has to find, anywhere before it, where that document
stopped. So short documents teach long range. A row is filled with documents to exactly max_length.
With probability 1 - `untouched` it is knotted. Each document is then cut into as many chunks as the
`odds` draw, and all chunks of the row are shuffled. Those of one document stay in their order
unless `keep_order=false`. The last chunk of the row stays last, so that rows end as texts do. Chunk
j of a document, counted from 0, begins with the token `<|knot_j_in|>` where j > 0. It ends with
`<|knot_{j+1}_out|>` where another follows.

With `backtrace` each chunk of a cut document has a name of six characters before it, between
`<|chunk|>` and `<|/chunk|>`. The names stand in reading order behind the document's chunk that
comes last in the row: `<|trace|>` name `<|then|>` name `<|/trace|>`.

No loss is taken where the input or the target is a knot or part of a chunk's name. None is taken on
the token `<|trace|>`, nor on what follows `<|/trace|>` or the end token of a document. End tokens
themselves and the names inside a trace are predicted.

Where ours differs from the authors' code: room for knots is reserved before a row is filled, so
nothing is truncated. The rest of a document that the end of a row cuts begins the next row. Equal
parts differ by a token at most, where theirs leave the remainder to the last. Cuts at fixed hops of
1,024 tokens are not offered. `untouched` is one share, where theirs is a list of odds to draw from.
"""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from lengthwise._utils.counter_rng import CounterRng, key
from lengthwise._utils.papers import Paper
from lengthwise.methods.options import option
from lengthwise.sequences.builders.knots import RowWriter
from lengthwise.sequences.builders.plain import LONGEST, Plain
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.errors import NotAsAskedError, SequenceError
from lengthwise.sequences.rows import Built, Documents
from lengthwise.sequences.token_store import TokenStore

NAME = 6
"""Characters of a chunk's name."""
MOST_CHUNKS = 16
_TRACE = ("<|chunk|>", "<|/chunk|>", "<|trace|>", "<|then|>", "<|/trace|>")


@dataclass(frozen=True)
class Chunk:
    """Tokens start to start + length - 1 of the store: chunk `index` of `count` of a document, the
    `document`-th of its row. name: token ids, empty where nothing is traced back."""

    document: int
    index: int
    count: int
    start: int
    length: int
    name: tuple[int, ...] = ()


@dataclass
class Utk(Plain):
    """Rows of exactly max_length tokens but for the last one of a part."""

    name: ClassVar[str] = "utk"
    paper: ClassVar[Paper] = Paper(
        "Untie the Knots: An Efficient Data Augmentation Strategy for Long-Context "
        "Pre-Training in Language Models",
        "Tian et al.",
        2025,
        arxiv="2409.04774",
        venue="ACL",
        code="https://github.com/rgtjf/Untie-the-Knots",
    )
    whole_documents: ClassVar[bool] = True
    document_mask: ClassVar[bool] = False

    max_length: int = option(8192, "tokens of a row, knots included", low=2, high=LONGEST)
    odds: str = option("1:1:1", "weights of cutting a document into 1:2:3:... chunks")
    untouched: float = option(0.3, "share of rows left as they are", low=0, high=1)
    cuts: str = option("random", "where documents are cut", choices=("random", "equal"))
    keep_order: bool = option(True, "keep the chunks of one document in their order")
    backtrace: bool = option(False, "name chunks, and list the names in reading order")

    def __post_init__(self) -> None:
        try:
            self._odds = [float(weight) for weight in self.odds.split(":")]
        except ValueError:
            self._odds = []
        fit = 0 < len(self._odds) <= MOST_CHUNKS and min(self._odds) >= 0
        if not fit or not 0 < sum(self._odds) < math.inf:
            raise SequenceError(
                f"odds={self.odds} are no odds: give one to {MOST_CHUNKS} weights of at least 0, "
                "such as 1:1:1 for one, two or three chunks alike"
            )
        self._ids: dict[str, int] = {}
        self._letters: list[int] = []

    @property
    def tokens(self) -> tuple[str, ...]:
        knots = [f"<|knot_{j}_{way}|>" for j in range(1, len(self._odds)) for way in ("out", "in")]
        return (*knots, *(_TRACE if self.backtrace else ()))

    def prepare(self, store: TokenStore, encoder: Encoder, seed: int) -> None:
        super().prepare(store, encoder, seed)
        self._ids = {token: encoder.id_of(token) for token in self.tokens}
        if self.backtrace:
            found = encoder.encode(list(string.ascii_letters + string.digits))
            # What is unknown to a tokenizer is one and the same token to it.
            self._letters = sorted({int(ids[0]) for ids in found if len(ids) == 1})
            if len(self._letters) < 16:
                raise NotAsAskedError(
                    "backtrace=true writes names of single letters, of which this tokenizer has "
                    f"{len(self._letters)} as tokens and needs 16: use backtrace=false"
                )

    def build(self, documents: Documents, part: int) -> Built:
        writer = RowWriter()
        figures = {"rows_untouched": 0, "documents_knotted": 0, "knots": 0, "documents_cut": 0}
        waiting = list(zip(documents.starts.tolist(), documents.lengths.tolist(), strict=True))
        waiting.reverse()
        while waiting:
            rng = CounterRng(key(self._seed, "utk", part, len(writer.row_ends) - 1))
            untouched = rng.uniform() < self.untouched
            taken, rest = self._fill(waiting, [1.0] if untouched else self._odds, rng)
            if rest:
                waiting.append(rest)
                figures["documents_cut"] += 1
            self._write(writer, self._knotted(taken, rng))
            knots = [count - 1 for _, _, count in taken if count > 1]
            figures["rows_untouched"] += untouched
            figures["documents_knotted"] += len(knots)
            figures["knots"] += sum(knots)
        figures["tokens_added"] = writer.added
        return Built({0: writer.rows()}, figures=figures)

    def _fill(
        self, waiting: list[tuple[int, int]], odds: list[float], rng: CounterRng
    ) -> tuple[list[tuple[int, int, int]], tuple[int, int] | None]:
        """(start, length, chunks) of the documents of one row, and the rest of the last one."""
        taken: list[tuple[int, int, int]] = []
        room = self.max_length
        while waiting and room:
            start, length = waiting.pop()
            count = min(_drawn(odds, rng), length)
            # Where the end of the row cuts it, as many chunks as leave a token for each.
            while count > 1 and self._overhead(count) + min(length, count) > room:
                count -= 1
            here = min(length, room - self._overhead(count))
            taken.append((start, here, count))
            room -= here + self._overhead(count)
            if here < length:
                return taken, (start + here, length - here)
        return taken, None

    def _overhead(self, count: int) -> int:
        """Tokens that a document cut into `count` chunks takes beside its own."""
        if count == 1:
            return 0
        names = count * (NAME + 2) + count * (NAME + 1) + 1 if self.backtrace else 0
        return 2 * (count - 1) + names

    def _knotted(self, taken: list[tuple[int, int, int]], rng: CounterRng) -> list[Chunk]:
        """The chunks of all documents in the order of the row."""
        used: set[tuple[int, ...]] = set()
        documents = [self._cut(n, *document, rng, used) for n, document in enumerate(taken)]
        if all(len(chunks) == 1 for chunks in documents):
            return [chunk for chunks in documents for chunk in chunks]
        last = documents[-1].pop()
        mixed = rng.shuffled([chunk for chunks in documents for chunk in chunks])
        if self.keep_order:
            mixed = [documents[chunk.document].pop(0) for chunk in mixed]
        return [*mixed, last]

    def _cut(
        self, number: int, start: int, length: int, count: int, rng: CounterRng,
        used: set[tuple[int, ...]],
    ) -> list[Chunk]:  # fmt: skip
        if self.cuts == "equal":
            places = [length * j // count for j in range(1, count)]
        else:
            places = [1 + place for place in rng.distinct(count - 1, length - 1)]
        found = []
        for index, (a, b) in enumerate(pairwise([0, *places, length])):
            name = self._name(rng, used) if self.backtrace and count > 1 else ()
            found.append(Chunk(number, index, count, start + a, b - a, name))
        return found

    def _name(self, rng: CounterRng, used: set[tuple[int, ...]]) -> tuple[int, ...]:
        """A name that no chunk of this row has."""
        while True:
            name = tuple(self._letters[rng.below(len(self._letters))] for _ in range(NAME))
            if name not in used:
                used.add(name)
                return name

    def _write(self, writer: RowWriter, chunks: list[Chunk]) -> None:
        names: dict[int, dict[int, tuple[int, ...]]] = {}
        for chunk in chunks:
            if chunk.name:
                self._hidden(writer, self._ids["<|chunk|>"], *chunk.name, self._ids["<|/chunk|>"])
            if chunk.index:
                self._hidden(writer, self._ids[f"<|knot_{chunk.index}_in|>"])
            # The rest of a document that the row's end cuts stands in the next row: there its last
            # chunk here is no end, but nothing follows it either.
            writer.text(chunk.start, chunk.length, ends=chunk.index + 1 == chunk.count)
            if chunk.index + 1 < chunk.count:
                self._hidden(writer, self._ids[f"<|knot_{chunk.index + 1}_out|>"])
            if chunk.name:
                seen = names.setdefault(chunk.document, {})
                seen[chunk.index] = chunk.name
                if len(seen) == chunk.count:
                    self._trace(writer, [seen[index] for index in range(chunk.count)])
        writer.end_row()

    def _hidden(self, writer: RowWriter, *tokens: int) -> None:
        for token in tokens:
            writer.token(token, hidden=True, blind=True)

    def _trace(self, writer: RowWriter, names: list[tuple[int, ...]]) -> None:
        writer.token(self._ids["<|trace|>"], hidden=True, blind=False)
        for number, name in enumerate(names):
            if number:
                writer.token(self._ids["<|then|>"], hidden=False, blind=False)
            for letter in name:
                writer.token(letter, hidden=False, blind=False)
        writer.token(self._ids["<|/trace|>"], hidden=False, blind=True)


def _drawn(odds: list[float], rng: CounterRng) -> int:
    """A number of chunks, from 1, by its weight."""
    if len(odds) == 1:
        return 1
    left = rng.uniform() * sum(odds)
    for count, weight in enumerate(odds, 1):
        left -= weight
        if left < 0:
            return count
    return max(count for count, weight in enumerate(odds, 1) if weight)
