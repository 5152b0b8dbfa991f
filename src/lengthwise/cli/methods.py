"""`lengthwise methods`: everything registered."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.text import Text

from lengthwise.methods.base import Question
from lengthwise.methods.options import options
from lengthwise.recipes.registry import find, registered


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="print one JSON line a method")
def methods(name: str | None, as_json: bool) -> None:
    """List every registered method with its paper and options, or describe the method NAME."""
    items = registered()
    if name is not None:
        find(name)
        items = tuple(item for item in items if item.name == name)
    if as_json:
        for item in items:
            cls = item.cls
            click.echo(json.dumps({
                "name": item.name, "package": item.package, "error": item.error,
                "question": cls.question.value if cls else None,
                "paper": cls.paper if cls else None,
                "options": {o.name: str(o.default) for o in options(cls)} if cls else {},
                "best_known": cls.best_known if cls else "",
            }))  # fmt: skip
        return
    console = Console()
    for question in Question:
        inside = [i for i in items if i.cls is not None and i.cls.question is question]
        if inside and name is None:
            console.print(Text(f"\n{question.value}", style="bold"))
        for item in inside:
            cls = item.cls
            assert cls is not None
            console.print(
                Text(f"  {item.name}", style="cyan").append(f"  {cls.paper}", style="dim"),
                soft_wrap=True,
            )
            for each in options(cls):
                console.print(Text(f"      {each}"), soft_wrap=True)
                if name is not None and each.help:
                    console.print(Text(f"          {each.help}", style="dim"), soft_wrap=True)
            if name is not None and cls.best_known:
                console.print(Text(f"      best known setting: {cls.best_known}"), soft_wrap=True)
            if name is not None:
                import inspect

                doc = inspect.getdoc(inspect.getmodule(cls)) or ""
                console.print(Text(f"\n{doc}"), soft_wrap=True)
    for item in items:
        if item.error is not None:
            console.print(Text(f"\n{item.name} of {item.package} cannot be used: {item.error}",
                               style="red"))  # fmt: skip
