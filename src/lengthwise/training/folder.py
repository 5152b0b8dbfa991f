"""A run's folder: one process at a time, and one run.

run.json holds what decides on the numbers. It binds a folder once a step was done there; until then
another run may begin in it. What cannot change a number may change when a run is gone on with. How
long a run is may change where that is asked for, and then only so that the steps done are those
that the longer run would have done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lengthwise._utils.files import ASIDE
from lengthwise._utils.locks import alone_in
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.files import read_json, said_plainly, write_json
from lengthwise.training import checkpoint as checkpoints
from lengthwise.training.config import TrainingError
from lengthwise.training.deciding import FREE, Table, without
from lengthwise.training.log import NAME, read_log
from lengthwise.training.parallel import Ranks

RUN = "run.json"
Rate = Callable[[int], float]


@dataclass(frozen=True)
class Plan:
    """How long a run is. ends: steps at which it ended before it was made longer, where it was
    shorter than an epoch."""

    steps: int
    ends: tuple[int, ...] = ()

    def longer(self, steps: int, steps_per_epoch: int) -> Plan:
        """The plan of a run that goes on to `steps`."""
        first = self.ends[-1] if self.ends else 0
        short = self.steps - first < steps_per_epoch
        return Plan(steps, (*self.ends, self.steps) if short else self.ends)


class RunFolder:
    """The folder in `path`, held for this run until `close`. All ranks make it together.

    Raises LengthwiseError where another run is at work in it, or it holds something else.
    """

    def __init__(self, path: Path, ranks: Ranks) -> None:
        self.path, self._ranks, self._held = path, ranks, ExitStack()
        self.begun = False
        self._made: list[Path] = []
        error: LengthwiseError | None = None
        if ranks.first:
            try:
                self._hold()
            except LengthwiseError as found:
                error = found
        # A rank that waited for one that has given up would wait for ever.
        if ranks.total(error is not None)[0]:
            self._vanish()
            raise error or TrainingError(f"{path} cannot be used: the first rank says why")
        self.begun = self._begun()
        self._before: Table = _read(path / RUN) if self.begun else {}
        ranks.wait()

    def _hold(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise TrainingError(f"{self.path} is a file: give another out")
        missing = [each for each in (self.path, *self.path.parents) if not each.exists()]
        with said_plainly(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._made = missing
        self._held.enter_context(alone_in(self.path, "train", TrainingError))
        names = {each.name for each in self.path.iterdir()}
        if RUN not in names and not all(each.endswith(ASIDE) for each in names):
            raise TrainingError(f"{self.path} holds something else than a run: give another out")
        checkpoints.sweep(self.path / "checkpoints")
        shutil.rmtree(self.path / f"model{ASIDE}", ignore_errors=True)

    def _begun(self) -> bool:
        """Whether a step was done here that is still there."""
        if not (self.path / RUN).is_file():
            return False
        if checkpoints.latest(self.path / "checkpoints"):
            return True
        log = self.path / NAME
        try:
            return log.is_file() and any(True for _ in read_log(log, "train"))
        except TrainingError:
            # Killed in its first line.
            return False

    def plan(
        self, mine: Table, steps: int, extend: bool, steps_per_epoch: int,
        rates: Callable[[int], Rate], may_grow: bool,
    ) -> Plan:  # fmt: skip
        """The plan of the run that `mine` describes, `steps` long, in this folder.

        extend: whether it may be longer than it was. steps_per_epoch: of the data, unshortened.
        rates: of a run of so many steps, the rate of each. may_grow: whether its rows do not depend
        on its end. Raises TrainingError for another run, with what differs.
        """
        if not self.begun:
            if extend:
                raise TrainingError(
                    f"{self.path} holds no run that could be extended: leave --extend out"
                )
            return Plan(steps)
        self._require_same(mine)
        before = self._plan_before(steps_per_epoch)
        if steps == before.steps:
            return before
        if steps < before.steps or not extend:
            what = "a run can be made longer and not shorter" if steps < before.steps else (
                f"--extend goes on to step {steps:,}"
            )  # fmt: skip
            raise TrainingError(
                f"{self.path} holds a run of {before.steps:,} steps and not {steps:,}: {what}; "
                "set it back to go on as before, or give another out"
            )
        done = self._done()
        if not may_grow:
            raise TrainingError(
                f"{self.path} cannot be extended: [upsampling] is counted from the end of the run, "
                "so the rows read so far would have been others; begin anew in another out"
            )
        old, new = rates(before.steps), rates(steps)
        for step in range(done):
            if old(step) != new(step):
                raise TrainingError(
                    f"{self.path} cannot be extended from {before.steps:,} to {steps:,} steps: its "
                    f"schedule falls towards the end, and step {step:,} of the {done:,} done "
                    f"would have had the rate {new(step):.4g} and not {old(step):.4g}; begin anew "
                    "in another out. A run can be extended with schedule.name = 'power' without "
                    "decay_steps, and with 'wsd' or 'power' before their decay begins"
                )
        return before.longer(steps, steps_per_epoch)

    def remember(self, mine: Table, plan: Plan) -> None:
        """Puts down what the run is; from its first step on the folder is bound to it."""
        if self._ranks.first:
            write_json(
                self.path / RUN,
                mine | {"planned_steps": plan.steps, "earlier_ends": list(plan.ends)},
            )
        self._ranks.wait()

    def leave(self) -> None:
        """Lets go of the folder after a run that did no step, of which nothing stays."""
        if self._ranks.first and not self.begun:
            # run.json last: without it what is left would be something else than a run.
            for name in (NAME, "loss.png", RUN):
                (self.path / name).unlink(missing_ok=True)
            self._vanish()
        self.close()

    def _vanish(self) -> None:
        """Takes away the folders that were made for this run, while they are empty."""
        self.close()
        for each in self._made:
            if any(each.iterdir()):
                break
            each.rmdir()

    def close(self) -> None:
        """Lets go of the folder."""
        self._held.close()

    def _done(self) -> int:
        place = checkpoints.latest(self.path / "checkpoints")
        return int(checkpoints.read_state(place)["step"]) if place else 0

    def _plan_before(self, steps_per_epoch: int) -> Plan:
        found = self._before
        if "planned_steps" in found:
            return Plan(found["planned_steps"], tuple(found["earlier_ends"]))
        # Written by a version that kept the keys of the file.
        if found.get("steps"):
            return Plan(found["steps"])
        if found.get("tokens"):
            return Plan(found["tokens"] // found["tokens_per_step"])
        return Plan(found.get("epochs", 1) * steps_per_epoch)

    def _require_same(self, mine: Table) -> None:
        before, mine = dict(self._before), json.loads(json.dumps(mine))
        data, here = before.pop("checksums"), mine.pop("checksums")
        # Validation may come later: what was not there binds nothing.
        for key in sorted(data.keys() & here.keys()):
            if data[key] not in (None, here[key]):
                raise TrainingError(
                    f"{key} is not the data that the run in {self.path} was begun with (checksum "
                    f"{here[key][:12]} and not {data[key][:12]}): put it back to go on, or give "
                    "another out"
                )
        theirs, ours = (
            _flat(without(each, (*FREE, "planned_steps", "earlier_ends")))
            for each in (before, mine)
        )
        differing = sorted(k for k in theirs | ours if theirs.get(k) != ours.get(k))
        if differing:
            said = ", ".join(f"{k}={theirs.get(k)} and not {ours.get(k)}" for k in differing[:3])
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise TrainingError(
                f"{self.path} holds a run with {said}{more}: set it back to go on, or give another "
                "out"
            )


def _read(path: Path) -> Table:
    """run.json, as this version writes it."""
    found: Table = read_json(path)
    if not isinstance(found, dict) or {"data", "model"} - found.keys():
        raise TrainingError(
            f"{path} is damaged (it is of something else): put it back to go on, or give another "
            "out"
        )
    # Older versions kept one checksum.
    if "checksums" not in found:
        found["checksums"] = {"data.train": found["data"].pop("checksum", None)}
    return found


def _flat(table: Table, prefix: str = "") -> Table:
    found: Table = {}
    for key, value in table.items():
        found |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return found
