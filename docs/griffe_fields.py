"""Docstrings of the house form for the reference: lines such as `window: tokens that are kept.`

They say what a parameter or an attribute is, a line each or several in a row, and would run
together in one paragraph. Here each becomes an item of a list, where the word before the colon is a
name that the object has. An extension of griffe, named in mkdocs.yml.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_FIELD = re.compile(r"^((?:[a-z_]\w*)(?:, [a-z_]\w*)*): (?=\S)")


def listed(text: str, known: set[str]) -> str:
    """A docstring with its lines about the names it knows as a list."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        match = _FIELD.match(line)
        if match and set(match[1].split(", ")) <= known:
            if lines and lines[-1] and not inside:
                lines.append("")
            names = ", ".join(f"`{name}`" for name in match[1].split(", "))
            lines.append(f"- {names}: {line[match.end() :]}")
            inside = True
        elif inside and not line.strip():
            lines.append(line)
            inside = False
        elif inside and re.match(r"(Raises|Returns|Nothing|Of|Making|Does) ", line):
            lines += ["", line]
            inside = False
        else:
            lines.append(f"  {line.strip()}" if inside else line)
    return "\n".join(lines)


class Fields(griffe.Extension):
    """Lists what docstrings say of parameters and attributes."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is None or obj.is_alias:
            return
        known = set(obj.members) if obj.is_class else set()
        function = obj.members.get("__init__") if obj.is_class else obj
        known |= {parameter.name for parameter in getattr(function, "parameters", None) or ()}
        obj.docstring.value = listed(obj.docstring.value, known)
