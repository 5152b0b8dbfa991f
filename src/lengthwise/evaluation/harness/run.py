"""Tasks of the harness under several recipes of one model."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence as Seq
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import torch
from jinja2.exceptions import TemplateError

from lengthwise._utils.messages import first_line
from lengthwise._utils.progress import Progress
from lengthwise.api.given import require_count
from lengthwise.api.model import Model
from lengthwise.api.text_model import LocalText
from lengthwise.api.text_models import identity
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.harness.hushed import hushed
from lengthwise.evaluation.harness.model import LengthwiseLM
from lengthwise.evaluation.harness.outcome import Outcome, outcome_of
from lengthwise.evaluation.harness.run_file import HarnessFile
from lengthwise.evaluation.harness.tasks import Loaded, other_columns
from lengthwise.recipes import RecipeLike, recipes_of

# Draws of the harness's bootstrap: for standard errors of what is no mean.
DRAWS = 1000
# The harness's own, of examples before a question among others.
SEED = 1234


@dataclass(frozen=True)
class Asking:
    """How tasks are asked. limit: documents of each, the first ones; None is all. num_fewshot: None
    leaves it to the task. batch_size: contexts and texts at a time. max_length: tokens that the
    model reads; None is what it was trained to read. chat: prompts go through the chat template."""

    limit: int | None = None
    num_fewshot: int | None = None
    batch_size: int = 8
    max_length: int | None = None
    chat: bool = False

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size", "max_length"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))


@dataclass
class HarnessRun:
    """What a run found. outcomes: one a recipe and name. recipes: in their order, full first."""

    recipes: list[str]
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def cut(self) -> dict[str, int]:
        """Samples of each task that are longer than the model, the same ones under any recipe."""
        found: dict[str, set[int]] = {}
        for outcome in self.outcomes:
            for sample in outcome.samples:
                if sample.cut:
                    found.setdefault(sample.task, set()).add(sample.doc)
        return {task: len(docs) for task, docs in found.items()}


def run_harness(
    model: Model,
    tasks: Seq[Loaded],
    recipes: RecipeLike | Seq[RecipeLike] = (),
    asking: Asking | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    quiet: bool = True,
) -> HarnessRun:
    """Runs tasks of the harness under recipes, `full` always and first.

    Args:
        model: loaded once, for all of them.
        tasks: what `load_tasks` gave.
        recipes: one, or several.
        asking: how tasks are asked.
        out: a file that gets a line a sample. A run that was stopped goes on from it.
        force: begin the file anew.
        progress: told of each task and recipe.
        quiet: keep the harness's own bars and lines off the terminal.

    Returns:
        What was found, that of the file included.

    Raises:
        LengthwiseError: for a task that a model of text cannot serve, and data sets that have other
            columns than their task asks for.
        Refused: where a recipe cannot run on this model; before anything runs.
    """
    asking = asking or Asking()
    named = list(dict.fromkeys(["full", *map(str, recipes_of(recipes) if recipes else ())]))
    models = {each: _model(model, each, asking) for each in named}
    found, told = HarnessRun(named), progress or Progress()
    with ExitStack() as stack:
        file = None
        if out is not None:
            job = _job(model, asking)
            file = stack.enter_context(HarnessFile(Path(out), job, force))
        done = {} if file is None else file.done
        for task in tasks:
            for recipe in named:
                told.stage(f"{task.name}, {recipe}", 1, "task")
                outcome = done.get((recipe, task.name))
                if outcome is None:
                    with hushed(quiet):
                        outcome = _evaluate(models[recipe], task, recipe, asking)
                    if file is not None:
                        file.add(outcome)
                found.outcomes.append(outcome)
                told.advance(1)
    return found


def _model(model: Model, recipe: str, asking: Asking) -> LengthwiseLM:
    return LengthwiseLM(model, recipe, batch_size=asking.batch_size, max_length=asking.max_length)


def _job(model: Model, asking: Asking) -> dict[str, Any]:
    """What decides the scores beside task and recipe."""
    asked = asdict(asking)
    del asked["batch_size"]
    return {"model": identity(LocalText(model)), "lm_eval": version("lm_eval"), **asked}


def _evaluate(model: LengthwiseLM, task: Loaded, recipe: str, asking: Asking) -> Outcome:
    """What `lm_eval.simple_evaluate` does, without its looks at the machine, which take seconds."""
    tasks = task.leaves()
    for each in tasks.values():
        own = each.get_config("num_fewshot")
        # A task that says none means it.
        if own is None or (asking.num_fewshot is not None and own != 0):
            each.set_config(key="num_fewshot", value=asking.num_fewshot or 0)
        each.set_fewshot_seed(seed=SEED)
    random.seed(0)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    try:
        results = lm_eval.evaluate(
            model, task.manager.load(list(task.parts)), limit=asking.limit, bootstrap_iters=DRAWS,
            log_samples=True, apply_chat_template=asking.chat, fewshot_as_multiturn=asking.chat,
        )  # fmt: skip
    except TemplateError as error:
        raise other_columns(task.name, error) from error
    except ValueError as error:
        if isinstance(error, LengthwiseError):
            raise
        if "Sample larger" in str(error):
            raise LengthwiseError(
                f"task {task.name}: it has too few documents for so many examples before each "
                "question; ask for fewer (num_fewshot)"
            ) from error
        if "Attempted to run" not in str(error):
            raise
        raise LengthwiseError(f"task {task.name}: {first_line(error)}") from error
    return outcome_of(recipe, task.name, results, model.cuts, tasks)


__all__ = ["Asking", "HarnessRun", "run_harness"]
