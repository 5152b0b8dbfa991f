"""Tasks of the harness by name: found, or the nearest name said; their data sets loaded once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from lengthwise._utils.messages import first_line
from lengthwise._utils.suggestions import did_you_mean
from lengthwise.errors import LengthwiseError

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
    manager = _manager(names, folder)
    wanted = dict.fromkeys(found for name in names for found in _named(manager, name))
    return [_load(manager, name) for name in wanted]


def _manager(names: Seq[str], folder: str | None) -> Any:
    """Who knows the tasks. Its own 15,000 are looked through only where they are needed."""
    if folder is not None:
        own = TaskManager(include_path=folder, include_defaults=False)
        if set(names) <= set(own.all_subtasks):
            return own
    return TaskManager(include_path=folder)


def _named(manager: Any, name: str) -> Iterator[str]:
    """Names that a name stands for."""
    if name in manager.task_index:
        yield name
    elif name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise LengthwiseError(f"task {name}: there is no such file")
        yield name
    elif "*" in name:
        found = [each for each in manager.all_tasks if fnmatch(each, name)]
        if not found:
            raise LengthwiseError(f"no task is named as {name!r}; `lm_eval ls tasks` lists them")
        yield from found
    else:
        begins = [each for each in manager.all_tasks if name and each.startswith(name)][:_SHOWN]
        near = did_you_mean(name, manager.all_tasks, "; `lm_eval ls tasks` lists them")
        more = f"; there are {', '.join(begins)}" if begins else near
        raise LengthwiseError(f"there is no task {name!r}{more}")


def _load(manager: Any, name: str) -> Loaded:
    try:
        found = manager.load([name])
    except ModuleNotFoundError as error:
        raise LengthwiseError(
            f"task {name} needs the package {error.name}: pip install {error.name}"
        ) from error
    except Exception as error:
        raise LengthwiseError(
            f"task {name}: {_about(manager, name)} ({first_line(error)})"
        ) from error
    groups, tasks = found["groups"], found["tasks"]
    parts = (groups[name],) if name in groups else tuple(tasks.values())
    return Loaded(name, parts, manager)


def _about(manager: Any, name: str) -> str:
    """What could not be had of a task."""
    entry = manager.task_index.get(name)
    config = (entry.cfg or {}) if entry is not None else {}
    if not (path := config.get("dataset_path")):
        return "it cannot be loaded"
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    what = f"{path} of {files}" if files else f"{path} {config.get('dataset_name') or ''}".strip()
    return f"its data set {what} cannot be had"


__all__ = ["Loaded", "load_tasks"]
