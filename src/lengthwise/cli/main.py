"""The command group, and what every verb shares: model options and one-line errors."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from lengthwise._utils.messages import first_line, ran_out
from lengthwise._utils.suggestions import did_you_mean
from lengthwise._utils.version import __version__
from lengthwise.cli.arguments import refuse_empty
from lengthwise.cli.once import once
from lengthwise.errors import LengthwiseError, OutOfMemory

if TYPE_CHECKING:
    from lengthwise.api.model import Model
    from lengthwise.api.remote_model import RemoteModel
    from lengthwise.methods.prompts import TextModel

# Verbs are imported when they are called: `lengthwise --help` should not wait for torch.
VERBS = {
    "compare": "run many recipes on one text and the same questions; print one table",
    "eval": "score recipes on benchmarks by length: tables, heat maps, intervals, samples",
    "run": "answer one prompt under one recipe, streaming",
    "read": "read a document once and save it, to be asked many times",
    "batch": "run a file of requests, those that begin alike read once, and go on after a crash",
    "write": "write a long text: a plan first, and then part by part; goes on after a crash",
    "bytes": "print the likeliest next bytes behind a prompt, which may end within a token",
    "label": "label many items, several of them a prompt, by a vote over several orders",
    "rank": "rank candidates behind one prompt by their probability, in one pass",
    "chat": "talk with a model in the terminal; its cache is kept from turn to turn",
    "serve": "answer many callers over HTTP as OpenAI's API does, with a page",
    "methods": "list every method, its paper and its options",
    "check": "tell what a model supports, what it refuses, and why",
    "machine": "tell which kernels serve a model on this machine, and what was timed",
    "pac": "write programs with holes, of which a share is right by guarantee (PAC sets)",
    "calibrate": "measure on a model, once, what some methods need to know of it",
    "bench": "measure in depth: drafting on kinds of work; every cache method at equal bytes",
    "datastore": "index a corpus that the datastore drafter guesses from",
    "cartridge": "train a few keys and values to stand for a corpus (Cartridges)",
    "soft": "train encoders whose embeddings stand for a text (Dolphin, Extensible Tokenization)",
    "ranker": "train a ranker that chooses among sampled texts (RankGen)",
    "tokenizer": "report on tokenizers, train one on your text, give a model another one",
    "sequences": "build training sequences by length from documents, and see what was built",
    "train": "train a model on built sequences, by a curriculum over lengths",
    "curves": "compare training runs: validation loss against seconds and tokens",
    "plan": "choose sequence-parallel groups for batches of varied lengths (FlexSP)",
    "scaling": "fit the published scaling laws to your runs, predict, recompute the papers",
}
# What to install for verbs that need more than the rest.
EXTRAS = {"cartridge": "training", "curves": "training", "datastore": "datastore",
          "eval": "evaluation", "plan": "training", "ranker": "training", "scaling": "scaling",
          "sequences": "training", "serve": "serve", "soft": "training",
          "tokenizer": "tokenizers", "train": "training"}  # fmt: skip
# Verbs whose names are taken in Python.
OBJECTS = {"bytes": "bytes_", "eval": "eval_"}
Function = TypeVar("Function", bound=Callable[..., Any])


class _Verbs(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        try:
            command = getattr(import_module(f"lengthwise.cli.{name}"), OBJECTS.get(name, name))
        except ModuleNotFoundError as missing:
            if name not in EXTRAS or (missing.name or "").startswith("lengthwise"):
                raise
            raise click.ClickException(
                f"`lengthwise {name}` needs {missing.name}: "
                f"pip install 'lengthwise[{EXTRAS[name]}]'"
            ) from None
        assert isinstance(command, click.Command)
        refuse_empty(command)
        return once(command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click asks every verb for its help, and so would import all of them at each key.
        verbs = [CompletionItem(n, help=VERBS[n]) for n in VERBS if n.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and name not in VERBS and not name.startswith("-"):
            hint = did_you_mean(name, VERBS, ".")
            raise click.UsageError(f"there is no verb {name!r}{hint} Verbs: {', '.join(VERBS)}.")
        return super().resolve_command(context, args)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lengthwise")
def group() -> None:
    """Long inputs on the model you already have: any published method, alone or combined,
    measured."""


def main() -> None:
    """The console script."""
    try:
        _open_closed()
        _hush()
        status = group(prog_name="lengthwise", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx is not None else "lengthwise"
        _fail(f"{error.format_message().rstrip('.')} ({verb} --help)", error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has left; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OutOfMemory as error:
        _fail(str(error), 1)
    except LengthwiseError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror or error}", 2)
    except Exception as error:
        if _interrupted(error):
            _fail("interrupted", 130)
        if ran_out(error):
            _fail(f"out of memory ({first_line(error)}); ask for less at once", 1)
        raise
    sys.exit(status if isinstance(status, int) else 0)


def _open_closed() -> None:
    """Puts the null device in the place of standard streams that were closed before we began, as
    some schedulers do: Python has None there, and the next file opened would take their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _hush() -> None:
    """Keeps log lines and warnings of other libraries off the terminal: what the user can mend is
    said in a line of ours."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error: modules that import others in C hand on what they like."""
    before = error.__cause__ or error.__context__
    return before is not None and (isinstance(before, KeyboardInterrupt) or _interrupted(before))


def _fail(message: str, status: int) -> None:
    # The caret under a recipe points at nothing once the lines are one.
    message = re.sub(r"\n  [^\n]*\n *\^$", "", message)
    short = re.sub(r"\S{300,}", lambda word: f"{word[0][:60]}...{word[0][-20:]}", message)
    click.echo(f"lengthwise: {' '.join(short.split())}", err=True)
    sys.exit(status)


@dataclass(frozen=True)
class ModelChoice:
    """What --model, --dtype, --device, --weights, --device-map, --offload-folder and --tokenizer
    ask for."""

    model: str | None
    dtype: str | None
    device: str | None
    weights: str | None
    device_map: str | None
    offload_folder: str | None
    tokenizer: str | None

    def loader(self, cache_bytes: int = 0) -> Callable[[], Model]:
        """What loads the model, here or in another process, with so many bytes for what prompts
        begin with."""
        from lengthwise.api.loading import load

        if self.tokenizer is not None:
            raise LengthwiseError(
                "--tokenizer is of a model behind a server (--model openai:URL); a model that runs "
                "here has its own"
            )
        return partial(
            load, self.model, self.dtype, self.device, weights=self.weights,
            device_map=_device_map(self.device_map), offload_folder=self.offload_folder,
            cache_bytes=cache_bytes,
        )  # fmt: skip

    def open(self, cache_bytes: int = 0) -> Model:
        """Loads the model and says on standard error what it runs as; see `loader`."""
        loaded = self.loader(cache_bytes)()
        p = loaded.provenance
        places = getattr(loaded.adapted.model, "hf_device_map", None) or {}
        found = list(dict.fromkeys(map(str, places.values())))
        spread = f" (its parts on {', '.join(found)})" if len(found) > 1 else ""
        click.echo(
            f"{p.name} in {p.dtype_text} on {p.device}{spread}, trained to "
            f"{p.trained_length:,} tokens",
            err=True,
        )
        return loaded

    @property
    def is_remote(self) -> bool:
        """Whether --model names one behind a server."""
        from lengthwise.api.connecting import PREFIX

        return self.model is not None and self.model.startswith(PREFIX)

    def remote(self) -> RemoteModel | None:
        """The model behind a server that --model names; None for one that runs here. Says on
        standard error what it is, and what a user has to know of it."""
        from lengthwise.api.connecting import remote

        if not self.is_remote:
            return None
        for each in ("dtype", "device", "weights", "device_map", "offload_folder"):
            if getattr(self, each) is not None:
                raise LengthwiseError(
                    f"--{each.replace('_', '-')} is of a model that runs here, and {self.model} is "
                    "behind a server; leave it out"
                )
        found = remote(self.model, self.tokenizer)
        assert found is not None
        click.echo(f"{found.name} at {found.url}", err=True)
        for note in found.notes:
            click.echo(note, err=True)
        return found

    def open_text(self, recipe: str = "full") -> TextModel:
        """The model as text goes in and out of it, here read and written under a recipe."""
        from lengthwise.api.text_models import as_text_model

        return as_text_model(self.remote() or self.open(), recipe)


def _device_map(text: str | None) -> Any:
    """What --device-map says: a word, or JSON, which may stand in a file."""
    if text is None or not (text.lstrip().startswith("{") or text.endswith(".json")):
        return text
    try:
        if text.endswith(".json"):
            text = Path(text).read_text(encoding="utf-8")
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise LengthwiseError(f"--device-map: no JSON can be read ({error})") from error


def model_options(function: Function) -> Function:
    """The options of `ModelChoice`, as one argument `choice`."""

    @wraps(function)
    def with_choice(*args: Any, **kwargs: Any) -> Any:
        asked = {each.name: kwargs.pop(each.name) for each in fields(ModelChoice)}
        return function(*args, choice=ModelChoice(**asked), **kwargs)

    chosen: Any = with_choice
    for option in (
        click.option(
            "--tokenizer",
            metavar="NAME",
            help="of a model behind a server, to count tokens with: a folder or a hub name",
        ),
        click.option(
            "--offload-folder",
            metavar="FOLDER",
            help="for weights on disk that cannot stay in the model's own files",
        ),
        click.option(
            "--device-map",
            metavar="MAP",
            help="auto, balanced or sequential: spread the model over devices, CPU memory and disk;"
            ' or places by modules, {"model.layers.0": 0, ...}, as JSON or a file of it',
        ),
        click.option(
            "--weights",
            help="int8 or int4: linear layers in as many bits (default: as they come)",
        ),
        click.option(
            "--device", help="where to run: cpu, cuda, cuda:1, mps (default: the best here)"
        ),
        click.option("--dtype", help="bf16, fp16 or fp32 (default: what the device is fast at)"),
        click.option(
            "--model",
            "-m",
            help="a local folder, a .gguf file or a hub name (default: the embedded "
            "SmolLM2-135M-Instruct); openai:http://HOST/v1 or openai:http://HOST/v1#NAME is one "
            "behind a server",
        ),  # fmt: skip
    ):
        chosen = option(chosen)
    decorated: Function = chosen
    return decorated
