"""A batch job on a Ray cluster: an actor holds each replica of the model, Ray Data feeds them.

Requests of one group go to one replica, which reads their prefix once. A group is parted only where
it is more than a replica's share of all there is to do. What replicas give is written down here, in
one OUT, as it comes.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import Any

from lengthwise._utils.messages import first_line
from lengthwise.api.held_model import HeldModel
from lengthwise.errors import LengthwiseError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.serving.batch_body import Names, asks_of
from lengthwise.serving.batch_files import BatchError, Line
from lengthwise.serving.batch_job import JobMetrics
from lengthwise.serving.batch_plan import Group, OutputLengths, decode_heavy_first, groups_of
from lengthwise.serving.batch_run import Local, MakesRunner, Runner, Todo, Told, usual_kv_bytes

# Bundles of requests for each replica: each ends with nothing to decode beside, and the last of all
# is waited for, so there are neither many nor few.
_BUNDLES = 4
# The number of a row that is no request's.
_COST = -1


def bundles_of(todo: Seq[Todo], replicas: int, lengths: OutputLengths) -> list[list[int]]:
    """Requests in bundles, each for one replica, in the order they run in.

    Args:
        todo: what is asked.
        replicas: how many there are.
        lengths: what is known of how much is written.

    Returns:
        Numbers of requests. A group is in one bundle, but for one that costs more than a replica's
        share of all.
    """
    ids = [each.asks[0].ids for each in todo]

    def expected(number: int) -> float:
        asks = todo[number].asks
        return len(asks) * lengths.expected(asks[0].max_new_tokens)

    by_recipe: dict[str, list[int]] = {}
    for number, each in enumerate(todo):
        by_recipe.setdefault(str(each.asks[0].recipe), []).append(number)
    groups = [
        Group(group.prefix, tuple(alike[member] for member in group.members))
        for alike in by_recipe.values()
        for group in groups_of([ids[number] for number in alike])
    ]

    def cost(members: Seq[int], prefix: int) -> float:
        return prefix + sum(len(ids[m]) - prefix + expected(m) for m in members)

    whole = sum(cost(group.members, group.prefix) for group in groups)
    share, size = whole / replicas, whole / (replicas * _BUNDLES)
    found: list[list[int]] = [[]]
    filled = 0.0
    for group in decode_heavy_first(groups, [len(each) for each in ids], expected):
        parts = -(-int(cost(group.members, group.prefix)) // max(1, int(share)))
        for part in range(parts):
            members = group.members[part::parts]
            more = cost(members, group.prefix)
            if found[-1] and filled + more > size:
                found.append([])
                filled = 0.0
            found[-1] += members
            filled += more
    return [bundle for bundle in found if bundle]


class Replica:
    """An actor: a model of its own that runs bundle after bundle.

    load: makes the model. mark: the fingerprint it must have. kv_bytes: None is its part of half of
    the memory that is free. home: the folder in which relative names are meant.
    """

    def __init__(
        self, load: Callable[[], HeldModel], names: Names, kv_bytes: int | None, mark: str,
        replicas: int, home: str,
    ) -> None:  # fmt: skip
        if os.path.isdir(home):
            os.chdir(home)
        self._model, self._names = load(), names
        if fingerprint_now(self._model.adapted) != mark:
            raise BatchError(
                f"the model {names.known[0]} of a replica has other weights than the one here; "
                "every machine has to find the same model by that name"
            )
        held = usual_kv_bytes(self._model) // replicas if kv_bytes is None else kv_bytes
        self._run = Local(self._model, names.known[0], held)
        self._lengths = OutputLengths()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Runs the requests of bundles; a row for each, and one with what all of them cost.

        Args:
            batch: "bundle" has the requests of each, as JSON.
        """
        todo = []
        for number, line, identity in (
            each for bundle in batch["bundle"] for each in json.loads(str(bundle))
        ):
            given = Line(**line)
            todo.append((number, Todo(given, asks_of(given, self._names, self._model), identity)))
        numbers = {id(each): number for number, each in todo}
        found: list[tuple[int, int, str]] = []

        def told(each: Todo, status: int, body: Mapping[str, Any]) -> None:
            found.append((numbers[id(each)], status, json.dumps(body)))

        cost = self._run([each for _, each in todo], told, self._lengths)
        found.append((_COST, 0, json.dumps(vars(cost))))
        rows = zip(*found, strict=True)
        return dict(zip(("number", "status", "body"), map(list, rows), strict=True))


@dataclass(frozen=True)
class Replicas:
    """Runs requests on replicas, on the cluster at $RAY_ADDRESS, on the running one, or on one
    started here. gpu: each replica takes one.

    See `Replica` for the others.
    """

    load: Callable[[], HeldModel]
    replicas: int
    names: Names
    kv_bytes: int | None
    mark: str
    gpu: bool = False

    def __call__(self, todo: Seq[Todo], told: Told, lengths: OutputLengths) -> JobMetrics:
        begin = time.perf_counter()
        whole = JobMetrics()
        for row in self._rows(bundles_of(todo, self.replicas, lengths), todo):
            if row["number"] == _COST:
                _add(whole, json.loads(row["body"]))
            else:
                told(todo[row["number"]], row["status"], json.loads(row["body"]))
        whole.seconds = time.perf_counter() - begin
        return whole

    def _rows(self, bundles: Seq[Seq[int]], todo: Seq[Todo]) -> Iterator[dict[str, Any]]:
        """What replicas give, as it comes."""
        import ray.data

        if not ray.is_initialized():
            # What a user can mend comes as an error; Ray's own account of itself is in its logs.
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        items = [{"bundle": json.dumps([_sent(n, todo[n]) for n in each])} for each in bundles]
        running = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Replica, batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self.replicas, len(items))),
            num_gpus=1 if self.gpu else None,
            fn_constructor_args=(self.load, self.names, self.kv_bytes, self.mark, self.replicas,
                                 os.getcwd()),
        )  # fmt: skip
        try:
            yield from running.iter_rows()
        except Exception as error:
            raise _plain(error) from error


def _sent(number: int, each: Todo) -> tuple[int, dict[str, Any], str]:
    """A request as JSON takes it."""
    return number, {**vars(each.line), "body": dict(each.line.body or {})}, each.identity


def _add(whole: JobMetrics, part: Mapping[str, Any]) -> None:
    """Adds what a bundle cost. Replicas run beside each other: the peak is that of one."""
    for name, value in part.items():
        before = getattr(whole, name)
        setattr(whole, name, max(before, value) if name == "kv_peak_bytes" else before + value)


def _plain(error: BaseException) -> LengthwiseError:
    """What a replica refused, or one line of ours about what happened to it."""
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        if isinstance(at, LengthwiseError):
            return at
        seen.append(at)
        at = getattr(at, "cause", None) or at.__cause__ or at.__context__
    return BatchError(
        f"Ray lost a replica ({first_line(error)}); run the same command again to go on"
    )


def replicated(load: Callable[[], HeldModel], replicas: int) -> MakesRunner:
    """What makes a runner of replicas, for `run_batch`.

    Args:
        load: what every replica makes its model with.
        replicas: how many there are.

    Raises:
        BatchError: where Ray is missing.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise BatchError(
            "--engine ray needs Ray: pip install 'lengthwise[ray]'; --engine local needs nothing"
        ) from error

    def runner(model: HeldModel, names: Names, kv_bytes: int | None) -> Runner:
        adapted = model.adapted
        gpu, mark = adapted.device.type == "cuda", fingerprint_now(adapted)
        return Replicas(load, replicas, names, kv_bytes, mark, gpu)

    return runner


__all__ = ["Replica", "Replicas", "bundles_of", "replicated"]
