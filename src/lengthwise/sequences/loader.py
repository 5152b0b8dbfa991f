"""Rows of a data set for torch: one by one, or a step's worth at a time and resumable.

`StatefulLoader` has `state_dict` and `load_state_dict` as torchdata's StatefulDataLoader does. Its
state is the epoch and the step, since the rows of any step are computed from its number
(`curricula`): nothing is replayed, and batches that workers read ahead are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from lengthwise.sequences.collate import PackedCollator
from lengthwise.sequences.curricula import Curriculum
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.store import Row, SequenceSet

Place = tuple[int, int]
"""(bucket, number of the row in it)."""


def _opened(data: SequenceSet | str | Path) -> SequenceSet:
    return data if isinstance(data, SequenceSet) else SequenceSet(data)


class SequenceRows(Dataset[Row]):
    """The rows of all buckets, one bucket after another, by number from 0: what a Trainer takes as
    its `train_dataset`.

    Raises SequenceError where the folder is no finished data set.
    """

    def __init__(self, data: SequenceSet | str | Path) -> None:
        self.data = _opened(data)
        self._buckets = sorted(self.data.buckets.items())

    def __len__(self) -> int:
        return sum(count for _, count in self._buckets)

    def __getitem__(self, number: int) -> Row:
        left = number + len(self) if number < 0 else number
        for bucket, count in self._buckets:
            if 0 <= left < count:
                return self.data.row(left, bucket)
            left -= count
        raise IndexError(f"there is no row {number}: the data set has {len(self):,}")


class StatefulLoader:
    """The batches of every step, from where it was left; each iteration goes on to the end of an
    epoch, and the next one is another epoch. One at a time: an earlier one ends with an error.

    data: a data set of `lengthwise sequences build`, or its folder. tokens_per_step: on all ranks
    together, a multiple of every row length. curriculum, cycles, seed: which rows a step reads
    (`Curriculum`). rank, world: the rows of a step are dealt out to `world` processes. collate:
    makes a batch of a list of `Row`. num_workers, pin_memory: of torch's DataLoader.

    Raises SequenceError where the numbers do not fit.
    """

    def __init__(
        self, data: SequenceSet | str | Path, tokens_per_step: int, *,
        curriculum: str = "grow-p2", cycles: int = 1, seed: int = 0, rank: int = 0, world: int = 1,
        collate: Callable[[list[Row]], Any] | None = None, num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:  # fmt: skip
        self.data = _opened(data)
        self.curriculum = Curriculum(
            self.data.rows_by_length, tokens_per_step, curriculum, cycles, seed
        )
        for length in self.curriculum.batches:
            self.curriculum.check_ranks(length, rank, world)
        self._rank, self._world = rank, world
        self._options: dict[str, Any] = {
            "collate_fn": collate or PackedCollator(), "num_workers": num_workers,
            "pin_memory": pin_memory,
        }  # fmt: skip
        self._epoch = self._step = 0
        self._begun = 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self.curriculum.steps_per_epoch

    def __iter__(self) -> Iterator[Any]:
        self._begun += 1
        epoch, mine = self._epoch, self._begun
        plan = _Plan(self.curriculum, self.data, (epoch, self._step), self._rank, self._world)
        for batch in DataLoader(_Places(self.data), batch_sampler=plan, **self._options):
            if mine != self._begun:
                raise SequenceError(
                    "this iteration was left for a later one, which counts the steps now: make a "
                    "loader for each that is to go on"
                )
            # Counted before it is handed out: whoever has a batch saves what comes after it.
            self._step += 1
            if self._step == len(self):
                self._epoch, self._step = epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Which batch comes next, and of which data and curriculum."""
        return {"epoch": self._epoch, "step": self._step} | self._kind()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken; the number of ranks may be another one.

        Raises SequenceError where it is of other data or another curriculum.
        """
        mine = self._kind()
        if missing := {"epoch", "step", *mine} - state.keys():
            raise SequenceError(f"this is no state of a StatefulLoader: it lacks {min(missing)!r}")
        for name, value in mine.items():
            if state[name] != value:
                raise SequenceError(
                    f"the state is of {name}={state[name]!r}, and this loader has {name}={value!r}:"
                    " make the loader as the one was that the state is of"
                )
        epoch, step = int(state["epoch"]), int(state["step"])
        if epoch < 0 or not 0 <= step < len(self):
            raise SequenceError(
                f"there is no step {step} in epoch {epoch}: there are {len(self):,}"
            )
        self._epoch, self._step = epoch, step

    def _kind(self) -> dict[str, Any]:
        plan = self.curriculum
        return {
            "data": self.data.manifest["checksum"], "tokens_per_step": plan.tokens_per_step,
            "curriculum": plan.name, "cycles": plan.cycles, "seed": plan.seed,
        }  # fmt: skip


class _Places(Dataset[Row]):
    """Rows by their places."""

    def __init__(self, data: SequenceSet) -> None:
        self._data = data

    def __getitem__(self, place: Place) -> Row:
        bucket, number = place
        return self._data.row(number, bucket)


class _Plan(Sampler[list[Place]]):
    """The places of the rows of every step of an epoch, from a step on."""

    def __init__(
        self, curriculum: Curriculum, data: SequenceSet, first: tuple[int, int], rank: int,
        world: int,
    ) -> None:  # fmt: skip
        self._draws = curriculum.draws(*first, rank, world)
        self._bucket_of, self._left = data.bucket_of, curriculum.steps_per_epoch - first[1]

    def __len__(self) -> int:
        return self._left

    def __iter__(self) -> Iterator[list[Place]]:
        for draw in self._draws:
            bucket = self._bucket_of(draw.length)
            yield [(bucket, number) for number in draw.rows.tolist()]
