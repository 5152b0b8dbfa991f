"""An option that takes one value is given once: click would drop all but the last."""

from __future__ import annotations

from collections import Counter

import click

from lengthwise.errors import LengthwiseError

# What else there is for someone who wants several.
INSTEAD = {"recipe": "`lengthwise compare` runs several side by side, and + joins methods"}


def once(command: click.Command) -> click.Command:
    """The command, which now refuses an option given twice; of a group, every command in it."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            once(each)
    parse = command.parse_args
    if getattr(parse, "once", False):
        return command

    def parse_args(context: click.Context, args: list[str]) -> list[str]:
        # A parser of its own, because parsing uses up what it is given.
        _, _, order = command.make_parser(context).parse_args(args=list(args))
        for parameter, times in Counter(order).items():
            if times > 1 and isinstance(parameter, click.Option) and _takes_one(parameter):
                name = max(parameter.opts, key=len)
                way = INSTEAD.get(str(parameter.name), "")
                raise LengthwiseError(
                    f"{name} is given {times} times, and {context.info_name} takes one"
                    + (f"; {way}" if way else "")
                )
        return parse(context, args)

    parse_args.once = True  # type: ignore[attr-defined]
    command.parse_args = parse_args  # type: ignore[method-assign, assignment]
    return command


def _takes_one(option: click.Option) -> bool:
    """Whether two of it would contradict each other: a switch that is only ever put on does not."""
    return (
        not option.multiple
        and not option.count
        and not (option.is_flag and not option.secondary_opts)
    )
