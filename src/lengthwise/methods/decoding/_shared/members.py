"""Who knows the members of an expression: a table, or jedi, a language server for Python."""

from __future__ import annotations

import json
import os
import queue
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from lengthwise.errors import RecipeError

_RECEIVER = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*$")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


class Members(Protocol):
    """Answers what may follow a dot.

    free: an answer costs nothing, so that it is asked whatever is likely.
    """

    free: bool

    def of(self, code: str) -> frozenset[str]:
        """Names that may follow the dot at the end of `code`; empty where none are known.

        Raises:
            Exception: where it cannot be told.
        """
        ...


class Table:
    """Members by name: of `self.items` that of `self.items`, or else that of `items`."""

    free = True

    def __init__(self, members: Mapping[str, frozenset[str]]) -> None:
        self._members = members

    def of(self, code: str) -> frozenset[str]:
        found = _RECEIVER.search(code[:-1])
        if found is None:
            return frozenset()
        whole = found.group()
        return self._members.get(whole) or self._members.get(whole.rsplit(".", 1)[-1], frozenset())


class Jedi:
    """Asks jedi, in a thread of its own: one that does not answer in time is not asked again.

    project: the folder whose code it knows; "" is none. seconds: that an answer may take.
    """

    free = False

    def __init__(self, project: str, seconds: float) -> None:
        self._seconds = seconds
        self._dead = ""
        self._project = project

    def __deepcopy__(self, memo: dict[int, Any]) -> Jedi:
        return self

    def of(self, code: str) -> frozenset[str]:
        if self._dead:
            raise TimeoutError(self._dead)
        # With brackets that are open at the dot it may know nothing: asked again, they are closed.
        for text in dict.fromkeys((code, code + "\n" + closed(code))):
            found = self._ask(text, code)
            if found:
                return found
        return frozenset()

    def _ask(self, text: str, code: str) -> frozenset[str]:
        line, column = code.count("\n") + 1, len(code) - code.rfind("\n") - 1
        answers: queue.Queue[frozenset[str] | Exception] = queue.Queue()

        def ask() -> None:
            try:
                answers.put(_completions(self._project, text, line, column))
            except Exception as error:
                answers.put(error)

        threading.Thread(target=ask, name="lengthwise-jedi", daemon=True).start()
        try:
            answer = answers.get(timeout=self._seconds)
        except queue.Empty:
            self._dead = f"no answer within {self._seconds:g} s"
            raise TimeoutError(self._dead) from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _completions(project: str, text: str, line: int, column: int) -> frozenset[str]:
    import jedi

    where = jedi.Project(project) if project else None
    found = jedi.Script(text, project=where).complete(line, column)
    # What is no name is no member: keywords, and parts of paths in strings.
    return frozenset(
        str(each.name) for each in found if each.type != "keyword" and each.name.isidentifier()
    )


def closed(code: str) -> str:
    """The brackets that close what is open at the end of code."""
    opened: list[str] = []
    for letter in code:
        if letter in _PAIRS:
            opened.append(_PAIRS[letter])
        elif opened and letter == opened[-1]:
            opened.pop()
    return "".join(reversed(opened))


def table_of(name: str, given: str) -> Table:
    """A table out of a JSON file, or of its text.

    Args:
        name: of the method, for errors.
        given: `{"name": ["member", ...]}`, or the file that holds it.

    Raises:
        RecipeError: for a file that cannot be read, and for another form.
    """
    inline = given.lstrip().startswith("{")
    where = "its text" if inline else given
    try:
        text = given if inline else Path(os.path.expanduser(given)).read_text("utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{name}(members={given}): there is no such file") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{name}(members={given}): the file cannot be read: {error}") from None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RecipeError(f"{name}(members): {where} is no JSON ({error})") from None
    listed = isinstance(found, dict) and all(isinstance(each, list) for each in found.values())
    if not listed or not all(_named(each) for names in found.values() for each in names):
        raise RecipeError(
            f'{name}(members): {where} is no table of members: give {{"name": ["member", ...]}}, '
            "each member an identifier"
        )
    return Table({key: frozenset(names) for key, names in found.items()})


def _named(given: object) -> bool:
    return isinstance(given, str) and given.isidentifier()


def jedi_members(name: str, project: str, seconds: float) -> Callable[[], Jedi]:
    """What starts jedi for a project.

    Args:
        name: of the method, for errors.
        project: its folder; "" is none.
        seconds: that an answer may take.

    Raises:
        RecipeError: where jedi is not installed, or there is no such folder.
    """
    try:
        import jedi  # noqa: F401
    except ImportError:
        raise RecipeError(
            f"{name} asks jedi, which is not installed: pip install 'lengthwise[monitor]', or give "
            f"{name}(members=FILE)"
        ) from None
    folder = os.path.expanduser(project)
    if folder and not Path(folder).is_dir():
        raise RecipeError(f"{name}(project={project}): there is no such folder")
    return lambda: Jedi(folder, seconds)


__all__ = ["Jedi", "Members", "Table", "closed", "jedi_members", "table_of"]
