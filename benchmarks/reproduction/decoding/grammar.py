"""Texts of JSON schemas: how many are valid, what a step costs, and guesses under a grammar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import jsonschema
from benchmarks.reproduction.harness import Found, check, load

from lengthwise.api.generation import Generation
from lengthwise.errors import LengthwiseError
from lengthwise.methods.decoding.grammar import Grammar
from lengthwise.recipes import Recipe, parse

Schema = dict[str, Any]


def _object(**properties: Any) -> Schema:
    return {
        "type": "object", "properties": properties, "required": list(properties),
        "additionalProperties": False,
    }  # fmt: skip


TEXT = {"type": "string", "maxLength": 40}
LINK: Schema = _object(name=TEXT)
LINK["properties"]["next"] = {"anyOf": [{"$ref": "#/$defs/link"}, {"type": "null"}]}
CHAIN = {**_object(first={"$ref": "#/$defs/link"}), "$defs": {"link": LINK}}


def _chain(links: int) -> Schema:
    """A chain of at most so many links."""
    end = {"type": "null"}
    return _object(name=TEXT, next={"anyOf": [_chain(links - 1), end]} if links > 1 else end)


# What is asked, and the schema of the answer.
SCHEMAS: dict[str, tuple[str, Schema]] = {
    "person": ("A person in a novel, as JSON:", _object(
        name=TEXT, age={"type": "integer", "minimum": 0, "maximum": 120},
        alive={"type": "boolean"}, kind={"enum": ["hero", "villain", "other"]},
    )),
    "order": ("An order in a shop, as JSON:", _object(
        number={"type": "integer", "minimum": 1},
        lines={"type": "array", "minItems": 1, "maxItems": 4, "items": _object(
            article=TEXT, count={"type": "integer", "minimum": 1, "maximum": 99},
            price={"type": "number", "minimum": 0, "maximum": 1000},
        )},
    )),
    "event": ("A meeting next week, as JSON:", _object(
        title={"type": "string"}, date={"type": "string", "format": "date"},
        time={"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"},
        where={"anyOf": [_object(room=TEXT), _object(link=TEXT)]},
    )),
    "chain": ("A chain of command, as JSON:", _chain(4)),
    "mixed": ("A list of settings, as JSON:", {
        "type": "array", "minItems": 2, "maxItems": 4, "items": {"anyOf": [
            _object(key={"const": "port"}, value={"type": "integer", "maximum": 65535}),
            _object(key={"const": "host"}, value=TEXT),
            _object(key={"const": "debug"}, value={"type": "boolean"}),
        ]},
    }),
}  # fmt: skip


# A schema that calls itself bounds no text.
UNBOUNDED = {"chain without end": ("A chain of command, as JSON:", CHAIN)}


def valid(text: str, schema: Schema) -> bool:
    """Whether a text is JSON, and what its schema asks for."""
    try:
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.validate(json.loads(text), schema, format_checker=checker)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


@check({"schema": "", "texts": "", "valid": "", "broken off": "", "ended in time": "",
        "valid unconstrained": "", "tokens a text": ".1f"})  # fmt: skip
def grammar(
    samples: int = 40, new: int = 512, batch: int = 8, spaces: str = "any", finish: bool = True
) -> Iterator[Found]:
    """Texts sampled at temperature 1 under five schemas, and without."""
    totals = [0, 0, 0]
    for name, (question, schema) in {**SCHEMAS, **UNBOUNDED}.items():
        method = Recipe((Grammar.of(schema, spaces=spaces, finish=finish),))
        texts = _written(question, method, samples, new, batch)
        plain = _written(question, Recipe(()), samples, 96, batch)
        good = sum(valid(each.text, schema) for each in texts)
        off = sum(each.metrics.finish_reason != "stop" for each in texts)
        yield {
            "schema": name, "texts": len(texts), "valid": good, "broken off": off,
            "ended in time": sum(any("brought" in n for n in each.metrics.notes) for each in texts),
            "valid unconstrained": sum(valid(each.text.strip(), schema) for each in plain),
            "tokens a text": sum(len(each.token_ids) for each in texts) / len(texts),
        }  # fmt: skip
        if name in SCHEMAS:
            totals = [a + b for a, b in zip(totals, (len(texts), good, off), strict=True)]
    yield {"schema": "all bounded", "texts": totals[0], "valid": totals[1], "broken off": totals[2]}


def _written(question: str, recipe: Recipe, samples: int, new: int, batch: int) -> list[Generation]:
    """Answers sampled at temperature 1, of the seeds from 0 on."""
    found: list[Generation] = []
    while len(found) < samples:
        seeds = list(range(len(found), min(samples, len(found) + batch)))
        found += load().generate_batch(
            [question] * len(seeds), recipe, seed=seeds, temperature=1.0, max_new_tokens=new
        )
    return found


def _records(count: int) -> list[Schema]:
    return [
        {
            "name": f"item {number}",
            "price": 10 * number + 5,
            "stock": number % 7,
            "sold": number > 3,
        }
        for number in range(1, count + 1)
    ]


RECORD = _object(
    name=TEXT, price={"type": "integer"}, stock={"type": "integer"}, sold={"type": "boolean"}
)


def _copying(records: int) -> tuple[str, Schema]:
    """A prompt that asks for a copy of its JSON, and the schema of that."""
    text = json.dumps(_records(records))
    schema = {"type": "array", "items": RECORD, "minItems": records, "maxItems": records}
    return f"Copy this JSON.\n{text}\nThe copy:\n", schema


@check({"recipe": "", "max_new_tokens": "", "ms a step": ".2f", "grammar ms a step": ".3f",
        "share": ".1%"})  # fmt: skip
def step(records: int = 12, new: tuple[int, ...] = (512, 256)) -> Iterator[Found]:
    """What a plain step costs, and of that the grammar: the law's own clock."""
    model = load()
    prompt, schema = _copying(records)
    for most, spaces in product(new, ("any", "one", "none")):
        method = Grammar.of(schema, spaces=spaces)
        model.generate(prompt, [method], max_new_tokens=8)
        found = model.generate(prompt, [method], max_new_tokens=most).metrics
        seconds = found.decode_s / found.decoded
        own = found.figures["grammar: seconds"] / found.figures["grammar: tokens asked"]
        yield {"recipe": f"grammar(json=..., spaces={spaces})", "max_new_tokens": most,
               "ms a step": 1e3 * seconds, "grammar ms a step": 1e3 * own,
               "share": own / seconds}  # fmt: skip


@check({"recipe": "", "tokens/s": ".1f", "speed": ".2f", "tokens a step": ".2f",
        "guessed by": "", "valid": "", "same text": ""})  # fmt: skip
def copying(
    records: int = 12, new: int = 512, dtype: str = "", spaces: str = "any"
) -> Iterator[Found]:
    """Copying JSON under its schema, plainly and with guesses."""
    model = load(dtype or None)
    prompt, schema = _copying(records)
    method = Grammar.of(schema, spaces=spaces)
    first: tuple[float, list[int]] | None = None
    for beside in ("full", "lookup"):
        recipe = [*parse(beside).methods, method]
        model.generate(prompt, recipe, max_new_tokens=16)
        found = model.generate(prompt, recipe, max_new_tokens=new)
        metrics = found.metrics
        first = first or (metrics.tokens_per_s, found.token_ids)
        yield {
            "recipe": "grammar" if beside == "full" else f"{beside} + grammar",
            "tokens/s": metrics.tokens_per_s, "speed": metrics.tokens_per_s / first[0],
            "tokens a step": metrics.accepted_per_step,
            "guessed by": ", ".join(f"{who} {count}" for who, count in metrics.accepted.items()),
            "valid": valid(found.text, schema), "same text": found.token_ids == first[1],
        }  # fmt: skip


@check({"input": "", "seconds": ".2f", "error": ""})
def wrong() -> Iterator[Found]:
    """What becomes of grammars that explode, cannot be satisfied or do not end."""
    import time

    model = load()
    for text in (r"(a{1,1000}){1,1000}(b{1,1000}){1,1000}", r"(.*a.{30}){3}", r"(x+x+)+y",
                 r"((a|b|c|d){1,60}x){1,60}.{0,60}(.{0,60}y){30}"):  # fmt: skip
        begin, said = time.perf_counter(), ""
        try:
            model.generate("Say it:", [Grammar.of(regex=text)], max_new_tokens=32)
        except LengthwiseError as error:
            said = str(error)
        yield {"input": f"`{text}`".replace("|", "\\|"), "seconds": time.perf_counter() - begin,
               "error": said}  # fmt: skip
