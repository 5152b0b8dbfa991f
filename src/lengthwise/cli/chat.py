"""`lengthwise chat`: a conversation in the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lengthwise._utils.outputs import SESSION, Output, check_outputs
from lengthwise._utils.suggestions import did_you_mean
from lengthwise.cli.arguments import COUNT, SEED, Place, Real, check_text, check_texts
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.cli.run import Pieces
from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.detokenise import whole_characters

if TYPE_CHECKING:
    from lengthwise.api.chat import Chat
    from lengthwise.api.model import Model

COMMANDS = {
    "/help": "this list",
    "/recipe": "RECIPE: go on under another one; without one, say which",
    "/undo": "take the last turn back",
    "/cost": "what it has cost so far",
    "/save": "FILE: store the conversation, and what was read of it",
    "/load": "FILE: go on with one that was stored",
}
_INPUT = "standard input"


@click.command()
@click.option("-r", "--recipe", default="full", show_default=True, help="see `lengthwise methods`")
@click.option("--system", help="what the model is told before all turns")
@click.option("--session", type=Place(exists=True, dir_okay=False),
              help="a conversation that /save stored, to go on with")  # fmt: skip
@click.option("--max-new-tokens", default=512, show_default=True, type=COUNT,
              help="most tokens of an answer")  # fmt: skip
@click.option("--temperature", default=0.0, show_default=True, type=Real(0), help="0 is greedy")
@click.option("--seed", default=0, show_default=True, type=SEED, help="of the samples")
@model_options
def chat(
    recipe: str, system: str | None, session: Path | None, max_new_tokens: int, temperature: float,
    seed: int, choice: ModelChoice,
) -> None:  # fmt: skip
    """Talk with a model: a line is a turn, and the end of the input (Ctrl-D) ends it.

    Ctrl-C ends an answer. /help lists what begins with a slash.
    """
    from lengthwise.recipes import parse

    parse(recipe)
    check_texts("--system", [] if system is None else [system])
    if session is not None and system is not None:
        raise LengthwiseError("--system is of a new conversation, and --session goes on with one")
    model = choice.open()
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    talk = Talk(model, model.chat(recipe, system), options)
    if session is not None:
        named = click.get_current_context().get_parameter_source("recipe")
        talk.load(str(session), None if named is ParameterSource.DEFAULT else recipe)
    talk.run()


class Talk:
    """A conversation that is read line by line. Errors of the user's are said, and it goes on."""

    def __init__(self, model: Model, talking: Chat, options: dict[str, Any]) -> None:
        self.model, self.chat, self.options = model, talking, options
        self.terminal = sys.stdin.isatty()
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help, "/recipe": self._recipe, "/undo": self._undo, "/cost": self._cost,
            "/save": self.save, "/load": self.load,
        }  # fmt: skip

    def run(self) -> None:
        """Reads turns until there are no more."""
        more = True
        while more:
            try:
                more = self._next()
            except LengthwiseError as error:
                click.echo(f"lengthwise: {' '.join(str(error).split())}", err=True)
        click.echo()

    def _next(self) -> bool:
        """Reads a turn, if there is one, and takes it."""
        line = self._line()
        if line is not None and line.strip():
            check_text("a turn", line)
            self._turn(line.strip())
        return line is not None

    def _line(self) -> str | None:
        from lengthwise.documents.encodings import decode

        if not self.terminal:
            data = sys.stdin.buffer.readline()
            return decode(data, _INPUT) if data else None
        # Arrow keys in `input`, where there is such a module.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
        try:
            return input("> ")
        except EOFError:
            return None
        except UnicodeDecodeError as error:
            return decode(error.object, _INPUT)

    def _turn(self, line: str) -> None:
        if not line.startswith("/"):
            self._say(line)
            return
        name, _, rest = line.partition(" ")
        if name not in self._commands:
            hint = did_you_mean(name, COMMANDS, ";")
            raise LengthwiseError(f"there is no command {name}{hint} /help lists them")
        self._commands[name](rest.strip())

    def _say(self, text: str) -> None:
        pieces = Pieces()
        try:
            # Under some recipes this reads.
            stream = self.chat.stream(text, **self.options)
        except KeyboardInterrupt:
            click.echo("\nstopped while this turn was read: nothing was said", err=True)
            return
        with stream:
            try:
                for piece in stream:
                    pieces(piece)
                    sys.stdout.flush()
            except KeyboardInterrupt:
                stream.close()
        found = stream.generation
        pieces.end(whole_characters(self.model.tokenizer, found.token_ids, found.text))
        click.echo()
        for note in found.metrics.notes:
            click.echo(note, err=True)

    def _help(self, rest: str) -> None:
        for name, what in COMMANDS.items():
            click.echo(f"{name:8} {what}")

    def _recipe(self, rest: str) -> None:
        if rest:
            self.chat.use(rest)
        click.echo(self.chat.recipe)

    def _undo(self, rest: str) -> None:
        self.chat.undo()
        click.echo(f"{len(self.chat.messages)} messages are left")

    def _cost(self, rest: str) -> None:
        click.echo(str(self.chat.cost))

    def save(self, name: str) -> None:
        """Stores the conversation.

        Args:
            name: of the file.
        """
        path = _path("/save", name)
        check_outputs([Output("/save", path, SESSION)])
        self.chat.save(path)
        click.echo(f"{path.stat().st_size / 1e6:.1f} MB in {path}")

    def load(self, name: str, recipe: str | None = None) -> None:
        """Goes on with a conversation that was stored.

        Args:
            name: of the file.
            recipe: it must have been read under; None takes the file's.
        """
        from lengthwise.api.chat import Chat
        from lengthwise.api.session_file import open_session

        self.chat = Chat.resume(open_session(_path("/load", name), self.model, recipe))
        click.echo(f"{len(self.chat.messages)} messages under {self.chat.recipe}")


def _path(command: str, name: str) -> Path:
    if not name:
        raise LengthwiseError(f"{command} takes the name of a file")
    return Path(os.path.expanduser(name))
