"""Tasks of the harness by name: found, or the nearest name said; their data sets loaded once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError
from lm_eval.tasks import TaskManager

from lengthwise._utils.messages import first_line
from lengthwise._utils.suggestions import did_you_mean
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.harness.hushed import hushed

# Names that a pattern may stand for, shown at most.
_SHOWN = 5


@dataclass(frozen=True)
class Loaded:
    """A task, group or tag by the name that was asked for. parts: Task and Group objects of it.
    manager: the TaskManager that knows them."""

    name: str
    parts: tuple[Any, ...]
    manager: Any

    def leaves(self) -> dict[str, Any]:
        """Task objects by their names."""
        found = [
            each.get_all_tasks() if hasattr(each, "get_all_tasks") else [each]
            for each in self.parts
        ]
        return {task.task_name: task for tasks in found for task in tasks}


def load_tasks(names: Seq[str], include_path: str | os.PathLike[str] | None = None) -> list[Loaded]:
    """Tasks, groups and tags of the harness, with their data sets.

    Args:
        names: of tasks as `lm_eval ls tasks` has them, patterns of them such as `mmlu_*`, or paths
            of YAML files.
        include_path: a folder of more tasks; one there takes the place of another of its name.

    Returns:
        What was asked for, each once.

    Raises:
        LengthwiseError: for a name that there is not, a folder that is none, and a task whose data
            set cannot be had.
    """
    if not names:
        raise LengthwiseError("no task is given; `lm_eval ls tasks` names them")
    folder = None if include_path is None else str(include_path)
    if folder is not None and not Path(folder).is_dir():
        raise LengthwiseError(f"include path {folder}: there is no such folder")
    own = None if folder is None else TaskManager(include_path=folder, include_defaults=False)
    wanted = {found: each for name in names for found, each in _named(own, name)}
    return [_load(manager, name, folder) for name, manager in wanted.items()]


@lru_cache(maxsize=1)
def _shipped() -> Any:
    """Who knows the harness's own tasks: nearly 15,000 files are read for it."""
    return TaskManager()


def _named(own: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Names that a name stands for, each with the manager that knows it."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise LengthwiseError(f"task {name}: there is no such file")
        yield name, own or TaskManager(include_defaults=False)
        return
    found: list[tuple[str, Any]] = []
    if own is not None:
        found = [(each, own) for each in own.all_tasks if fnmatchcase(each, name)]
    if not found:
        found = [(each, _shipped()) for each in _shipped().all_tasks if fnmatchcase(each, name)]
    if not found:
        known = [*(() if own is None else own.all_tasks), *_shipped().all_tasks]
        begins = [each for each in known if each.startswith(name)][:_SHOWN]
        near = did_you_mean(name, known, "; `lm_eval ls tasks` lists them")
        more = f"; there are {', '.join(begins)}" if begins else near
        raise LengthwiseError(f"there is no task {name!r}{more}")
    yield from found


def _load(manager: Any, name: str, folder: str | None) -> Loaded:
    try:
        with hushed():
            found = _parts(manager, name, folder)
    except ModuleNotFoundError as error:
        raise LengthwiseError(
            f"task {name} needs the package {error.name}: pip install {error.name}"
        ) from error
    except TemplateError as error:
        raise other_columns(name, error) from error
    except Exception as error:
        raise LengthwiseError(
            f"task {name}: {_about(manager, name)} ({first_line(error)})"
        ) from error
    groups, tasks = found["groups"], found["tasks"]
    parts = (groups[name],) if name in groups else tuple(tasks.values())
    return Loaded(name, parts, manager)


def _parts(manager: Any, name: str, folder: str | None) -> Any:
    """What the manager has; a group in the user's folder may hold tasks of the harness."""
    try:
        return manager.load([name])
    except (KeyError, ValueError):
        if name not in (*manager.all_groups, *manager.all_tags) or folder is None:
            raise
        return TaskManager(include_path=folder).load([name])


def other_columns(name: str, error: TemplateError) -> LengthwiseError:
    """The error of a task that asks for what its data set has not.

    Args:
        name: of the task.
        error: what its template met.
    """
    return LengthwiseError(
        f"task {name}: its data set has other columns than it asks for ({first_line(error)})"
    )


def _about(manager: Any, name: str) -> str:
    """What could not be had of a task."""
    entry = manager.task_index.get(name)
    config = (entry.cfg or {}) if entry is not None else {}
    if not (path := config.get("dataset_path")):
        return "it cannot be loaded"
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    what = f"{path} of {files}" if files else f"{path} {config.get('dataset_name') or ''}".strip()
    return f"its data set {what} cannot be had"


__all__ = ["Loaded", "load_tasks", "other_columns"]
