"""`lengthwise serve`: a model for many callers, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

# What the extra brings is asked for before anything else is done.
import fastapi as _fastapi  # noqa: F401
import prometheus_client as _prometheus_client  # noqa: F401
import uvicorn as _uvicorn  # noqa: F401

from lengthwise.cli.arguments import COUNT, WHOLE, Bytes, Real, Whole, check_texts
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import LengthwiseError
from lengthwise.recipes import Recipe, parse

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from lengthwise.api.model import Model
    from lengthwise.serving.app import Settings
    from lengthwise.serving.naming import Names

    Served = tuple[ASGIApp, Callable[[float], None]]

# What the embedded model is called for short.
EMBEDDED = "smollm2"


@click.command()
@click.argument("name_of_model", required=False, metavar="[MODEL]")
@click.option("-r", "--recipe", default="full", show_default=True,
              help="of calls that name none; see `lengthwise methods`")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True,
              help="address to listen at; 0.0.0.0 is all of this machine's")  # fmt: skip
@click.option("--port", default=8000, show_default=True, type=Whole(0, 65535),
              help="0: any that is free")  # fmt: skip
@click.option("--api-key", envvar="LENGTHWISE_API_KEY", show_envvar=True,
              help="that calls have to carry (default: none is needed)")  # fmt: skip
@click.option("--served-name", "names", multiple=True,
              help="of the model in calls; may be given again (default: its own)")  # fmt: skip
@click.option("--cache-bytes", type=Bytes(), help="for prompts that are kept, such as 2GB; 0: none")
@click.option("--kv-bytes", type=Bytes(), help="for keys and values of running texts, such as 8GB")
@click.option("--queue", default=256, show_default=True, type=WHOLE,
              help="texts that may wait; more are told to come again")  # fmt: skip
@click.option("--deadline", type=Real(0.001), help="seconds that a call may take at most")
@click.option("--max-new-tokens", default=4096, show_default=True, type=COUNT,
              help="most tokens that a call may ask for")  # fmt: skip
@click.option("--max-body", default="8MiB", show_default=True, type=Bytes(),
              help="largest request that is read")  # fmt: skip
@click.option("--allow-host", "hosts", multiple=True,
              help="another name that calls may give this machine, as behind a proxy")  # fmt: skip
@click.option("--allow-files", is_flag=True,
              help="calls may name files and models of this machine in their recipes")  # fmt: skip
@click.option("--drain", default=30.0, show_default=True, type=Real(0),
              help="seconds to finish what runs when told to end")  # fmt: skip
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="ray: replicas behind Ray Serve, over the machines of its cluster")  # fmt: skip
@click.option("--replicas", type=COUNT, help="models that --engine ray runs (default: 2)")
@model_options
def serve(
    name_of_model: str | None, recipe: str, host: str, port: int, api_key: str | None,
    names: tuple[str, ...], cache_bytes: int | None, kv_bytes: int | None, queue: int,
    deadline: float | None, max_new_tokens: int, max_body: int, hosts: tuple[str, ...],
    allow_files: bool, drain: float, engine: str, replicas: int | None, choice: ModelChoice,
) -> None:  # fmt: skip
    """Serve MODEL (default: the embedded one) as OpenAI's API does, with a page at /.

    Ctrl-C ends it when the answers that are being written are whole.
    """
    from lengthwise.serving.app import Settings
    from lengthwise.serving.asks import Limits
    from lengthwise.serving.http_server import bound_socket, serve as run
    from lengthwise.serving.naming import Names

    if replicas is not None and engine != "ray":
        raise LengthwiseError("--replicas is for --engine ray: give that too, or leave it out")
    parsed = _checked(recipe, host, api_key, names, hosts, max_body)
    if name_of_model is not None:
        if choice.model is not None:
            raise LengthwiseError(
                f"two models are given, {name_of_model} and --model {choice.model}; give one"
            )
        choice = replace(choice, model=name_of_model)
    with bound_socket(host, port) as listening:
        model = choice.open()
        model.plan(parsed)
        sizes = {"cache_bytes": cache_bytes, "kv_bytes": kv_bytes, "queue": queue}
        known = Names(names or _own_names(model, choice), parsed, allow_files)
        settings = Settings(
            known, Limits(max_new_tokens, deadline), api_key, _hosts(host, hosts), max_body
        )
        if engine == "ray":
            gpu = model.adapted.device.type == "cuda"
            # It was asked its name, and whether it runs the recipe; replicas need the memory.
            del model
            app, close = _replicated(choice, settings, replicas or 2, gpu, sizes)
        else:
            app, close = _alone(model, settings, sizes)
        run(
            app, listening, lambda: _say_ready(host, listening.getsockname()[1], known, api_key),
            lambda: close(drain), drain,
        )  # fmt: skip


def _alone(model: Model, settings: Settings, sizes: dict[str, Any]) -> Served:
    """The application over an engine here, and what ends it."""
    from lengthwise.serving.app import build_app
    from lengthwise.serving.engine import Engine

    engine = Engine(model, recipe=settings.names.recipe, **sizes)

    def close(drain: float) -> None:
        engine.close(drain)

    return build_app(model, engine, settings), close


def _replicated(
    choice: ModelChoice, settings: Settings, replicas: int, gpu: bool, sizes: dict[str, Any]
) -> Served:
    """The same over replicas of Ray Serve, on a GPU each or on none."""
    from lengthwise.serving.ray_serve import Front, start, stop

    front = Front(start(choice.loader(), settings, replicas, gpu, **sizes), settings)

    def close(drain: float) -> None:
        # Ray gives a replica time for what runs.
        stop()

    return front, close


def _checked(
    recipe: str, host: str, key: str | None, names: tuple[str, ...], hosts: tuple[str, ...],
    max_body: int,
) -> Recipe:  # fmt: skip
    """The recipe; raises LengthwiseError for what no server can be made of."""
    parsed = parse(recipe)
    for option, texts in (("--served-name", names), ("--allow-host", hosts), ("--host", (host,))):
        check_texts(option, texts)
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise LengthwiseError("--api-key: allowed are letters, digits and signs of ASCII, no space")
    if max_body < 1:
        raise LengthwiseError("--max-body 0: no request could be read; give 1MB or more")
    return parsed


def _own_names(model: Model, choice: ModelChoice) -> list[str]:
    own = PurePath(model.name.rstrip("/")).name.removesuffix(".gguf")
    return [EMBEDDED, own] if choice.model is None else [own or model.name]


def _hosts(host: str, more: tuple[str, ...]) -> Collection[str] | None:
    """Names that calls may use: of a server that others reach too, any, unless some are given."""
    from lengthwise.serving.guard import LOOPBACK, is_loopback

    return (*LOOPBACK, host, *more) if is_loopback(host) or more else None


def _say_ready(host: str, port: int, known: Names, key: str | None) -> None:
    from lengthwise.serving.guard import is_loopback

    shown = f"[{host}]" if ":" in host else host
    names = ", ".join(known.known)
    click.echo(f"http://{shown}:{port} serves {names} under {known.recipe}; Ctrl-C ends it")
    if key is None and not is_loopback(host):
        click.echo("everybody who reaches this address may use it: --api-key asks for a key",
                   err=True)  # fmt: skip
