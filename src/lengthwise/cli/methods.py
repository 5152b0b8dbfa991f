"""`lengthwise methods`: everything registered.

The list is made without importing a method, so that it does not wait for torch; what describes one
imports that one.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence as Seq
from dataclasses import asdict

import click
from rich.console import Console
from rich.text import Text

from lengthwise._utils.papers import cite, papers_of
from lengthwise.methods.options import options
from lengthwise.methods.slots import questions
from lengthwise.recipes.registry import METHODS, Registered, find, registered


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in METHODS if name.startswith(incomplete)]


@click.command()
@click.argument("name", required=False, shell_complete=_names)
@click.option("--options", "with_options", is_flag=True, help="list the options of every method")
@click.option("--json", "as_json", is_flag=True, help="print one JSON line a method")
def methods(name: str | None, with_options: bool, as_json: bool) -> None:
    """List every registered method with its paper, or describe the method NAME: its options, its
    equations, and where ours differs from the paper."""
    items: Seq[Registered] = registered()
    if name is not None:
        find(name)
        items = tuple(item for item in items if item.name == name)
    if as_json:
        for item in items:
            click.echo(json.dumps(_record(item)))
        return
    console = Console(markup=False)
    for question in questions():
        inside = [item for item in items if item.question == question]
        if inside and name is None:
            console.print(Text(f"\n{question}", style="bold"))
        for item in inside:
            console.print(
                Text(f"  {item.name}", style="cyan").append(f"  {cite(item.paper)}", style="dim"),
                soft_wrap=True,
            )
            if with_options or name is not None:
                _options(console, item, described=name is not None)
            if name is not None:
                _describe(console, item)
    for item in items:
        if item.question is None:
            console.print(Text(f"\n{item.name} of {item.package} cannot be used: {item.error}",
                               style="red"))  # fmt: skip


def _record(item: Registered) -> dict[str, object]:
    cls = item.cls
    return {
        "name": item.name, "package": item.package, "error": item.error,
        "question": str(cls.question) if cls else None,
        "paper": cite(cls.paper) if cls and cls.paper else None,
        "papers": [asdict(each) for each in papers_of(cls.paper)] if cls else [],
        "options": {o.name: str(o.default) for o in options(cls)} if cls else {},
        "best_known": cls.best_known if cls else "",
    }  # fmt: skip


def _options(console: Console, item: Registered, described: bool) -> None:
    if item.cls is None:
        console.print(Text(f"      cannot be used: {item.error}", style="red"), soft_wrap=True)
        return
    for each in options(item.cls):
        console.print(Text(f"      {each}"), soft_wrap=True)
        if described and each.help:
            console.print(Text(f"          {each.help}", style="dim"), soft_wrap=True)


def _describe(console: Console, item: Registered) -> None:
    cls = item.cls
    assert cls is not None  # It was found by its name.
    if cls.best_known:
        console.print(Text(f"      best known setting: {cls.best_known}"), soft_wrap=True)
    doc = inspect.getdoc(inspect.getmodule(cls)) or ""
    console.print(Text(f"\n{doc}"), soft_wrap=True)
