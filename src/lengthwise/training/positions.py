"""Training under changed rotary frequencies: the `[positions]` of a run.

PI, YaRN and Giraffe claim what they claim of models that were tuned with the changed frequencies. A
run is given them as a recipe is, and they are written into the model's config as transformers names
them, so that the trained model has them wherever it is loaded:

    f / s for every channel        linear, factor s
    theta' ^ (-2i / d)             default, with the base theta'
    YaRN                           yarn
    anything else that stays       longrope, with both of its tables f_i / f_i'
    logits by position, or CLEX    nothing: the trained model is read by `read_with`

What transformers makes of the config is held against the method's own frequencies before the first
step; a name that gives others is not used.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from lengthwise._utils.suggestions import did_you_mean
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Method, Question
from lengthwise.methods.options import options
from lengthwise.methods.positions.clex import CLEX
from lengthwise.models.attention_hook import rotary_modules
from lengthwise.models.rope import RopeFacts
from lengthwise.recipes.registry import find

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lengthwise.engine.kv_cache.query_scale import QueryScale


# Stands for the factor of a frequency of zero: no angle that it leaves differs from 0 in float32.
ENDLESS = 1e30
CLOSE = 1e-5


@dataclass(frozen=True)
class _Trained:
    """All that a frequency rule asks of a model."""

    trained_length: int


def frequency_method(name: str, settings: dict[str, Any]) -> Method:
    """The method of a `[positions]` table. Raises RecipeError where it is none, or cannot be
    trained with."""
    cls = find(name)
    if cls.question != Question.POSITIONS or cls.frequencies is Method.frequencies:
        why = "places far tokens anew while it reads"
        if cls.question != Question.POSITIONS:
            why = f"answers another question ({cls.question})"
        raise Refused(
            f"{name} {why} and changes no rotary frequency, so weights cannot be trained with it",
            "train with pi, ntk, abf, yarn or giraffe, and use it when the model reads",
        )
    found = configured(cls, settings)
    if isinstance(found, CLEX) and (found.length is not None or not found.network):
        raise RecipeError(
            "clex in a run takes max_factor alone: length and network are for reading"
        )
    return found


def configured(cls: type[Method], settings: dict[str, Any]) -> Method:
    """A method with the options of a table. Raises RecipeError for one that it does not have."""
    known = {each.name: each for each in options(cls)}
    for key in settings:
        if key not in known:
            raise RecipeError(
                f"{cls.name} has no option {key!r}{did_you_mean(key, known, '.')} "
                f"It has {', '.join(map(str, known.values()))}."
            )
    return cls(**settings)


def positioned(model: PreTrainedModel, method: Method, longest: int) -> Any:
    """The config of a model with the frequencies of a method, for rows of up to `longest` tokens.

    Raises Refused where this model cannot have them.
    """
    own, modules = model.config, rotary_modules(model)
    if not modules or not getattr(own, "rope_parameters", None):
        raise Refused(
            f"{method.name} changes rotary frequencies and family {own.model_type!r} has none",
            "leave [positions] out, or take a family with rotary positions, such as llama",
        )
    trained = int(own.max_position_embeddings)
    if isinstance(method, CLEX):
        _refuse_scaled(method, own.rope_parameters)
        if longest > trained:
            raise Refused(
                f"clex trains on rows of the trained length, {trained:,} tokens, and rows of this "
                f"data have {longest:,}",
                f"build the data with --max-length {trained}",
            )
        return copy.deepcopy(own)
    rule = method.frequencies(cast(Any, _Trained(trained)))
    assert rule is not None
    if scales_queries(method) and getattr(method, "trained", None) is None:
        raise Refused(
            f"{method.name} scales logits by the length that the model was trained for, and the "
            "trained model will say the length of its longest row",
            f"give the length before, as in trained = {trained}",
        )
    if rule.dynamic:
        raise Refused(
            f"{method} follows the length of the text, and transformers keeps the frequencies of "
            "the longest row so far, so what is learned would depend on the order of the rows",
            f"give the length to train for, as in length = {max(longest, trained)}",
        )
    kind = _kind(own, method)
    before = own.rope_parameters if kind is None else own.rope_parameters[kind]
    _refuse_scaled(method, before)
    old, _ = _found(modules[0], kind)
    facts = RopeFacts(float(before["rope_theta"]), 2 * len(old), trained)
    new, amplitude = rule.scale(old, facts, trained)
    for change in _names(method, old, new, amplitude, trained, longest):
        config = _changed(own, kind, {**before, **change}, trained, longest)
        if _gives(config, type(modules[0]), kind, new, amplitude):
            return config
    raise Refused(
        f"transformers cannot give family {own.model_type!r} the frequencies of {method}",
        "leave [positions] out, or take another family, such as llama",
    )


def _refuse_scaled(method: Method, before: dict[str, Any]) -> None:
    if before.get("rope_type", "default") != "default":
        raise Refused(
            f"the model has rotary frequencies of its own (rope type {before['rope_type']!r}), "
            f"which {method.name} would replace",
            "leave [positions] out to go on with them, or begin from the model before they were "
            "changed",
        )


def scales_queries(method: Method) -> bool:
    """Whether logits grow with the position under a method."""
    return type(method).query_scale is not Method.query_scale


def scale_of(method: Method) -> QueryScale | None:
    """What the queries of a run are multiplied by, by their positions; None leaves them."""
    if not scales_queries(method):
        return None
    return method.query_scale(cast(Any, _Trained(0)))


def read_with(method: Method | None) -> Method | None:
    """The recipe of weights that were trained under a method; None where their config says all."""
    if isinstance(method, CLEX):
        return method
    if method is None or not scales_queries(method):
        return None
    # The base stands in the config.
    return dataclasses.replace(method, base=None)  # type: ignore[call-arg]


def _changed(
    own: Any, kind: str | None, parameters: dict[str, Any], trained: int, longest: int
) -> Any:
    config = copy.deepcopy(own)
    config.rope_parameters = parameters
    if kind is not None:
        config.rope_parameters = {**own.rope_parameters, kind: parameters}
    if hasattr(config, "original_max_position_embeddings"):
        config.original_max_position_embeddings = trained
    config.max_position_embeddings = max(trained, longest)
    return config


def _names(
    method: Method, old: Tensor, new: Tensor, amplitude: float, trained: int, longest: int
) -> Iterator[dict[str, Any]]:
    ratio = (old.double() / new.double()).clamp_max(ENDLESS)
    original = {"original_max_position_embeddings": trained}
    if all(hasattr(method, name) for name in ("factor", "beta_fast", "beta_slow")):
        yield {
            "rope_type": "yarn", "factor": method.factor, "beta_fast": method.beta_fast,  # type: ignore[attr-defined]
            "beta_slow": method.beta_slow, "attention_factor": amplitude, **original,  # type: ignore[attr-defined]
        }  # fmt: skip
    if amplitude == 1.0:
        yield {"rope_type": "linear", "factor": float(ratio[0])}
        pairs = len(new)
        if pairs > 1 and float(new[-1]) > 0:
            yield {"rope_theta": float(new[-1].double() ** (-pairs / (pairs - 1)))}
    factors = ratio.tolist()
    yield {
        "rope_type": "longrope", "short_factor": factors, "long_factor": factors,
        "attention_factor": amplitude, "factor": max(1.0, longest / trained), **original,
    }  # fmt: skip


def _kind(config: Any, method: Method) -> str | None:
    """The layer type whose frequencies change; None where all layers share them.

    Layers that keep a window of their own keep their frequencies too, as they do in recipes.
    """
    kinds = [name for name, each in config.rope_parameters.items() if isinstance(each, dict)]
    windows = [name for name in getattr(config, "layer_types", None) or () if "sliding" in name]
    window = getattr(config, "sliding_window", None)
    if not kinds and (windows or (window and not hasattr(config, "layer_types"))):
        raise Refused(
            f"layers of this {config.model_type!r} model keep a window of their own, and share "
            f"their frequencies with all others, so {method.name} would change them too",
            "take a model without such layers, or one that gives them frequencies of their own, "
            "such as gemma3_text",
        )
    if not kinds:
        return None
    if "full_attention" not in kinds:
        raise Refused(
            f"this {config.model_type!r} model has rotary frequencies for {', '.join(kinds)}, and "
            "none for layers that read everything",
            "take another family, such as llama",
        )
    return "full_attention"


def _found(rotary: nn.Module, kind: str | None) -> tuple[Tensor, float]:
    """A rotary module's frequencies, float32 `[pairs]`, and its amplitude."""
    prefix = "" if kind is None else f"{kind}_"
    frequencies = cast(Tensor, getattr(rotary, f"{prefix}inv_freq")).detach().float().cpu()
    return frequencies, float(getattr(rotary, f"{prefix}attention_scaling", 1.0))


def _gives(config: Any, cls: type, kind: str | None, new: Tensor, amplitude: float) -> bool:
    """Whether transformers makes these frequencies of the config."""
    try:
        config.standardize_rope_params()
        config.validate_rope()
        found, scaling = _found(cls(config=config), kind)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    alike = found.shape == new.shape and torch.allclose(found, new, rtol=CLOSE, atol=1e-12)
    return alike and math.isclose(scaling, amplitude, rel_tol=1e-6)
