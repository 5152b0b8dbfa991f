"""From a built data set and a curriculum to the tensors of any step.

A step's data is a function of its number alone, so a resumed run reads what it would have read.
Documents in one row are told apart by positions that begin anew: transformers builds a mask that
keeps each within itself from that. Rows of one document need no mask and get none.

Ranks that share rows (`parallel.context`) draw the same ones, and each keeps its part of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.sequences.curricula import Curriculum, Draw
from lengthwise.sequences.files import checksum
from lengthwise.sequences.store import Row, SequenceSet
from lengthwise.sequences.upsampling import Upsampled
from lengthwise.training.config import RunConfig, TrainingError
from lengthwise.training.stretches import Stretches

IGNORED = -100
"""Target of a position that predicts nothing."""


@dataclass(frozen=True)
class Batch:
    """Rows that go through the model at once.

    input_ids, targets: int64 [rows, length]; IGNORED targets count for nothing.
    position_ids: int64 [rows, length], from 0 in each document; None where each row is one.
    row_positions: int64 [rows, whole length], position_ids of the whole rows; None where they are
    not shared with other ranks.
    """

    input_ids: Tensor
    targets: Tensor
    position_ids: Tensor | None = None
    row_positions: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        positions = (self.position_ids, self.row_positions)
        return Batch(
            self.input_ids.to(device), self.targets.to(device),
            *(None if each is None else each.to(device) for each in positions),
        )  # fmt: skip

    def part(self, number: int, of: int) -> Batch:
        """The `number`-th of `of` equal parts of every row, whose length `of` divides."""
        length = self.input_ids.shape[1]
        positions = self.position_ids
        if positions is None:
            positions = torch.arange(length, device=self.input_ids.device).expand_as(self.input_ids)
        here = slice(number * length // of, (number + 1) * length // of)
        return Batch(self.input_ids[:, here], self.targets[:, here], positions[:, here], positions)

    @property
    def predicted(self) -> int:
        """Positions that predict a token."""
        return int((self.targets != IGNORED).sum())


@dataclass(frozen=True)
class Work:
    """What is to be computed, as sums that may be added over batches, steps and ranks.

    token_lengths: for each token the length of its row, summed. pairs: of a token and one that it
    may see, itself included.
    """

    tokens: int = 0
    rows: int = 0
    token_lengths: int = 0
    pairs: int = 0


@dataclass(frozen=True)
class StepData:
    """What one rank computes in a step: its batches, and the length that was drawn.

    work: of its rows. Where ranks share them only the first of these has any, so that the sum over
    all ranks counts each token once.
    """

    length: int
    batches: list[Batch]
    work: Work


class Feed:
    """The data of every step of a run, for `rank` of `world`.

    never_read: lengths whose rows are too few for one step. share: of the rows, how many a run
    shorter than an epoch reads, with a curriculum that is fitted to it.

    Raises TrainingError or SequenceError where the data sets do not fit the run or each other.
    """

    def __init__(self, config: RunConfig, rank: int = 0, world: int = 1) -> None:
        self._context, self._accumulate = config.parallel.context, config.accumulate
        self._rank, self._part = divmod(rank, self._context)
        self._world = world // self._context
        self._number, self._ranks = rank, world
        self.base = SequenceSet(config.path(config.data.train or ""))
        self.manifest = self.base.manifest
        curriculum = Curriculum(
            _rows_by_length(self.base), config.tokens_per_step, config.curriculum.name,
            config.curriculum.cycles, config.seed,
        )  # fmt: skip
        self._whole = curriculum
        self.never_read = [
            n for n, rows in curriculum.buckets.items() if rows and n not in curriculum.batches
        ]
        self.total_steps = config.total_steps(self.whole_epoch)
        self.curriculum = curriculum = curriculum.shortened(self.total_steps)
        self.share = curriculum.steps_per_epoch / self.whole_epoch
        for length in curriculum.batches:
            # A step that does not divide among the ranks is found now and not in an hour.
            first = int(np.argmax(curriculum.lengths(0) == length))
            curriculum.draw(0, first, self._rank, self._world)
            if length % self._context:
                raise TrainingError(
                    f"parallel.context={self._context} does not divide rows of {length} tokens: "
                    f"set it to a divisor of {math.gcd(*curriculum.batches)}"
                )
        self._domains = {
            name: SequenceSet(config.path(domain.data or ""))
            for name, domain in config.upsampling.domains.items()
        }
        for name, other in self._domains.items():
            self._check_domain(other, f"upsampling.domains.{name}.data")
        self._extended: Stretches | None = None
        self._drawer: Curriculum | Upsampled = curriculum
        if self._domains:
            self._drawer = Upsampled(
                curriculum, config.epochs or 1,
                {name: _rows_by_length(each) for name, each in self._domains.items()},
                {name: each.weight for name, each in config.upsampling.domains.items()},
                config.upsampling.share,
            )  # fmt: skip
        self._reader = ThreadPoolExecutor(1, "rows")
        self._ahead: tuple[int, Future[StepData]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        return self.curriculum.steps_per_epoch

    @property
    def whole_epoch(self) -> int:
        """Steps of an epoch that reads every row."""
        return self._whole.steps_per_epoch

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer that the rows were built with, tokens that their method added included."""
        return self.base.tokenizer_file

    def follow(self, ends: Sequence[int]) -> None:
        """From here on reads what a run reads that was made longer at the steps `ends`."""
        self._extended = Stretches(self._whole, ends, self.total_steps)
        self.share = min(1.0, self.total_steps / self.whole_epoch)

    def checksums(self) -> dict[str, str]:
        """What was built, by the key of the file that names it."""
        found = {"data.train": self.base, **{
            f"upsampling.domains.{name}.data": each for name, each in self._domains.items()
        }}  # fmt: skip
        return {key: each.manifest["checksum"] for key, each in found.items()}

    def verify(self, note: Callable[[str], None]) -> None:
        """Raises TrainingError where rows on the disk are not those that were built.

        Each rank reads its share of the files. note: told where that may take a while.
        """
        shards = [
            (each.folder / shard["file"], shard["sha256"])
            for each in (self.base, *self._domains.values()) for shard in each.manifest["shards"]
        ][self._number :: self._ranks]  # fmt: skip
        size = sum(path.stat().st_size for path, _ in shards if path.is_file())
        if size > 1 << 30:
            note(f"comparing {size / 1e9:,.1f} GB of rows with their checksums")
        with ThreadPoolExecutor(4, "checksums") as readers:
            same = readers.map(lambda each: each[0].is_file() and checksum(each[0]) == each[1],
                               shards)  # fmt: skip
            for (path, _), whole in zip(shards, same, strict=True):
                if not whole:
                    raise TrainingError(
                        f"{path} is not the file that its data set was built with: it was "
                        "overwritten or damaged; put it back to go on, or build the data again "
                        "and begin anew in another out"
                    )

    def check_alike(self, other: SequenceSet, key: str) -> None:
        """Raises TrainingError unless `other`, named by a key of the file, has our tokenizer and
        our end of documents."""
        ours, theirs = self.manifest["tokenizer"], other.manifest["tokenizer"]
        if ours["fingerprint"] != theirs["fingerprint"]:
            raise TrainingError(
                f"{key} was built with another tokenizer than data.train: build both with one"
            )
        if ours["end_id"] != theirs["end_id"]:
            raise TrainingError(
                f"documents of {key} end with {theirs['end_token']!r}, those of data.train with "
                f"{ours['end_token']!r}: build both with one --end-token"
            )

    def _check_domain(self, other: SequenceSet, key: str) -> None:
        """Raises TrainingError unless rows of `other` are read as ours are: a step mixes them."""
        self.check_alike(other, key)
        ours, theirs = self.manifest, other.manifest
        differing = [
            name for name in ("target_token", "document_mask") if ours[name] != theirs[name]
        ]
        if theirs.get("added_tokens", {}).items() - ours.get("added_tokens", {}).items():
            differing.append("added_tokens")
        if differing:
            raise TrainingError(
                f"{key} ({other.folder}, {theirs['method']}) cannot be mixed with data.train "
                f"({self.base.folder}, {ours['method']}): they differ in {', '.join(differing)}; "
                "build both by one method"
            )

    def step(self, step: int, ahead: bool = False) -> StepData:
        """The data of a step, counted over all epochs. With `ahead` the next is read meanwhile."""
        ready, self._ahead = self._ahead, None
        data = ready[1].result() if ready and ready[0] == step else self.read(step)
        if ahead:
            self._ahead = step + 1, self._reader.submit(self.read, step + 1)
        return data

    def read(self, step: int) -> StepData:
        """The data of a step, read now."""
        draw = self.draw(step)
        rows = list(self._rows(self.base, draw.length, draw.rows))
        for name, numbers in draw.upsampled.items():
            rows += self._rows(self._domains[name], draw.length, numbers)
        target_token = bool(self.manifest["target_token"])
        parts = np.array_split(np.arange(len(rows)), min(self._accumulate, len(rows)))
        made = [make_batch([rows[i] for i in part], target_token, self._context) for part in parts]
        batches, work = [each[0] for each in made], total(each[1] for each in made)
        if self._context > 1:
            batches = [batch.part(self._part, self._context) for batch in batches]
        return StepData(draw.length, batches, work if self._part == 0 else Work())

    def draw(self, step: int) -> Draw:
        """Which rows this rank reads in a step."""
        if self._extended:
            return self._extended.draw(step, self._rank, self._world)
        return self._drawer.draw(*divmod(step, self.steps_per_epoch), self._rank, self._world)

    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)

    @staticmethod
    def _rows(source: SequenceSet, length: int, numbers: NDArray[np.int64]) -> list[Row]:
        bucket = length.bit_length() - 1 if source.manifest["buckets"] else 0
        # Rows of one row group are read together, whatever the order they are used in.
        found = {number: source.row(number, bucket) for number in sorted(numbers.tolist())}
        return [found[number] for number in numbers.tolist()]


def total(parts: Iterable[Work]) -> Work:
    """The sum of several works."""
    names = ("tokens", "rows", "token_lengths", "pairs")
    found = list(parts)
    return Work(*(sum(getattr(each, name) for each in found) for name in names))


def make_batch(rows: Sequence[Row], target_token: bool, multiple: int = 1) -> tuple[Batch, Work]:
    """Rows side by side, shorter ones filled up on the right with positions that count nothing.

    target_token: whether the last token of a row is only a target. Otherwise the last token of
    each document predicts nothing, since what follows it is not its own. multiple: what the length
    of the batch is a multiple of.
    """
    sizes = [len(row.input_ids) - target_token for row in rows]
    length = -(-max(sizes) // multiple) * multiple
    inputs = np.zeros((len(rows), length), np.int64)
    targets = np.full((len(rows), length), IGNORED, np.int64)
    positions = np.zeros((len(rows), length), np.int64)
    pairs, packed = 0, False
    for r, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        ids, lengths = row.input_ids, row.lengths.astype(np.int64)
        inputs[r, :size] = ids[:size]
        targets[r, : len(ids) - 1] = ids[1:]
        if row.loss_mask is not None:
            targets[r, : len(ids) - 1][row.loss_mask[1:] == 0] = IGNORED
        ends = np.cumsum(lengths)
        if target_token:
            lengths = np.array([size])
        else:
            targets[r, ends - 1] = IGNORED
        packed |= len(lengths) > 1
        # What fills the row up is one more document.
        pieces = np.append(lengths, length - size)
        firsts = np.cumsum(pieces) - pieces
        positions[r] = np.arange(length) - np.repeat(firsts, pieces)
        pairs += int((lengths * (lengths + 1) // 2).sum())
    batch = Batch(
        torch.from_numpy(inputs), torch.from_numpy(targets),
        torch.from_numpy(positions) if packed else None,
    )  # fmt: skip
    tokens = sum(sizes)
    return batch, Work(tokens, len(rows), tokens * length, pairs)


def _rows_by_length(source: SequenceSet) -> dict[int, int]:
    """Rows of each length; all of one length where the method has no buckets."""
    if source.manifest["buckets"]:
        return {1 << bucket: rows for bucket, rows in source.buckets.items()}
    return {int(source.manifest["max_length"]): source.buckets[0]}
