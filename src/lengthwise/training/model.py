"""The model that a run trains: from a family and sizes, or from a folder; and its optimizer.

Weights are float32 whatever the precision of the arithmetic, since updates are too small for bf16.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.optim import AdamW
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from lengthwise import architectures
from lengthwise._utils.messages import first_line
from lengthwise._utils.suggestions import closest, did_you_mean
from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.training.config import ModelOptions, OptimizerOptions, TrainingError
from lengthwise.training.cost import attends
from lengthwise.training.positions import positioned

architectures.register()
_IDS = ("bos_token_id", "pad_token_id")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def open_model(
    options: ModelOptions,
    manifest: dict[str, Any],
    folder: Path,
    device: torch.device,
    positions: Method | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> PreTrainedModel:
    """The model of a run, on the CPU, in float32.

    manifest: of the data, which gives the vocabulary, the end token and the longest row where
    `options` do not. folder: what a checkpoint's path is relative to. device: where it will run.
    positions: whose rotary frequencies it gets. note: told what is done to a checkpoint.
    Raises TrainingError for a family, setting or attention that cannot be had.
    """
    if options.attention == "flex_attention" and device.type == "cpu":
        raise TrainingError(
            "attention='flex_attention' has no gradient on a CPU; take 'sdpa', which keeps "
            "documents apart as well"
        )
    if options.checkpoint is not None:
        if options.settings:
            raise TrainingError(
                f"[model] has a checkpoint, so {', '.join(options.settings)} would be ignored: "
                "leave it out, or edit the checkpoint's config.json"
            )
        place = folder / options.checkpoint
        model = load_weights(
            place, options.attention, lambda read: _resized(read, manifest, options, note)
        )
    else:
        model = _new(_new_config(options, manifest), options.attention)
        needed, has = manifest["tokenizer"]["vocab_size"], _tokens_of(model)
        if needed > has:
            raise TrainingError(
                f"the model has {has:,} tokens and the data's tokenizer {needed:,}: leave "
                f"model.vocab_size out, or set it to {needed} or more"
            )
    learned = learned_positions(model.config)
    if learned and learned < manifest["max_length"]:
        raise TrainingError(
            f"the model has {learned:,} learned positions and the data's rows up to "
            f"{manifest['max_length']:,} tokens: build the data with --max-length {learned}"
        )
    return model if positions is None else _moved(model, positions, manifest, options.attention)


def _tokens_of(model: PreTrainedModel) -> int:
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.weight.shape[0])


def _resized(
    model: PreTrainedModel, manifest: dict[str, Any], options: ModelOptions,
    note: Callable[[str], None],
) -> None:  # fmt: skip
    """Gives a checkpoint the rows of embeddings and head that the data's tokens ask for.

    A checkpoint whose tokenizer could not be compared may lack those that a method added alone.
    """
    needed, has = int(manifest["tokenizer"]["vocab_size"]), _tokens_of(model)
    if needed <= has:
        return
    added = manifest.get("added_tokens", {})
    if needed - len(added) > has and options.tokenizer == "same":
        raise TrainingError(
            f"the model has {has:,} tokens and the data's tokenizer {needed:,}, of which the "
            f"data's method added {len(added)}: build the data with the checkpoint's tokenizer, or "
            "set model.tokenizer = 'data' to train new embeddings for them"
        )
    with quiet():
        model.resize_token_embeddings(needed)
    names = ", ".join(list(added)[:3]) + (", ..." if len(added) > 3 else "")
    note(
        f"embeddings resized from {has:,} to {needed:,} tokens{f' for {names}' * bool(added)}: new "
        "rows are drawn around the mean of the others"
    )


def export_dtype(options: ModelOptions, folder: Path) -> str:
    """One of DTYPES: of the weights that a run leaves, asked for or those of its checkpoint."""
    if options.export_dtype is not None or options.checkpoint is None:
        return options.export_dtype or "fp32"
    try:
        found = json.loads((folder / options.checkpoint / "config.json").read_text("utf-8"))
        said = found.get("dtype") or found.get("torch_dtype")
    except (OSError, ValueError, AttributeError, RecursionError):
        # Said better when it is loaded.
        return "fp32"
    names = {str(dtype).removeprefix("torch."): name for name, dtype in DTYPES.items()}
    return names.get(str(said), "fp32")


def _moved(
    model: PreTrainedModel, positions: Method, manifest: dict[str, Any], attention: str
) -> PreTrainedModel:
    """The same weights under other rotary frequencies."""
    try:
        config = positioned(model, positions, int(manifest["max_length"]))
    except Refused as refusal:
        raise TrainingError(f"[positions] {refusal}") from refusal
    made = _new(config, attention)
    made.load_state_dict(model.state_dict())
    made.generation_config = model.generation_config
    return made


def load_weights(
    folder: Path, attention: str, change: Callable[[PreTrainedModel], None] = lambda model: None
) -> PreTrainedModel:
    """The model saved in `folder`, in float32. change: what is done to it as it was read.

    Raises TrainingError where there is none, or its files are damaged or lack weights.
    """
    if not (folder / "config.json").is_file():
        raise TrainingError(f"model.checkpoint: {folder} holds no transformers model (config.json)")
    read = _read(folder)
    change(read)
    # Weights that were read may lie at addresses that make a CPU add in another order than those
    # of a new model; a resumed run has to add in the same order.
    model = _new(read.config, attention)
    model.load_state_dict(read.state_dict())
    # Those of ours that keep no cache have none.
    if hasattr(read, "generation_config"):
        model.generation_config = read.generation_config
    return model


def _read(folder: Path) -> PreTrainedModel:
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder)
            if getattr(config, "quantization_config", None):
                raise TrainingError(
                    f"{folder} holds quantised weights, which cannot be trained: save it with "
                    "plain weights first"
                )
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True
            )
    except TrainingError:
        raise
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError) as error:
        empty = [p.name for p in sorted(folder.iterdir()) if p.is_file() and not p.stat().st_size]
        why = f"{empty[0]} is empty" if empty else first_line(error)
        if "mismatched_sizes" in why:
            why = "its weights have other shapes than its config.json says"
        raise TrainingError(f"{folder} cannot be loaded: {why}") from error
    model: PreTrainedModel = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise TrainingError(
            f"{folder} holds no weights for {missing[0]}"
            f"{f' and {len(missing) - 1} others' * (len(missing) > 1)}, which would be random: "
            "name the folder of a whole causal language model"
        )
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own bars and reports, which would break our bar and say it twice."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _new(config: Any, attention: str) -> PreTrainedModel:
    # State-space families have none to choose, and transformers knows them by this name alone.
    if not attends(config):
        attention = "eager"
    try:
        return _made(config, attention)
    except Exception as error:  # each family's model checks its sizes in its own way, or not at all
        why = first_line(error)
        try:
            with torch.device("meta"):
                _made(config, "eager")
        except Exception:
            raise TrainingError(
                f"family {config.model_type!r} cannot be made with these settings: {why}"
            ) from error
        raise TrainingError(
            f"family {config.model_type!r} cannot have model.attention={attention!r}: "
            f"{why.split('. ')[0]}; 'eager' is there for all"
        ) from error


def _made(config: Any, attention: str) -> PreTrainedModel:
    made: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention
    )
    return made


def _new_config(options: ModelOptions, manifest: dict[str, Any]) -> Any:
    family = options.family or ""
    families = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *architectures.MODEL_TYPES}
    if family not in families:
        meant = did_you_mean(family, families)
        raise TrainingError(f"transformers has no causal language model {family!r}{meant}")
    plain = AutoConfig.for_model(family)
    aliases = dict(type(plain).attribute_map)
    known = {*plain.to_dict(), *aliases} - {"model_type", "architectures", "transformers_version"}
    for key in options.settings:
        if key not in known:
            near = closest(key, known)
            meant = f"; did you mean {near}?" if near else f"; it has {', '.join(sorted(known))}"
            raise TrainingError(f"[model] family {family!r} has no setting {key!r}{meant}")
    settings: dict[str, Any] = {
        "vocab_size": manifest["tokenizer"]["vocab_size"],
        "max_position_embeddings": manifest["max_length"],
        "eos_token_id": manifest["tokenizer"]["end_id"],
        **dict.fromkeys(_IDS),
    }
    settings = {aliases.get(key, key): value for key, value in settings.items() if key in known}
    settings |= {aliases.get(key, key): value for key, value in options.settings.items()}
    try:
        return AutoConfig.for_model(family, **settings)
    except Exception as error:
        # Each family's config checks itself in its own way.
        why = " ".join(str(error).split())
        raise TrainingError(f"[model] family {family!r} refuses these settings: {why}") from error


def learned_positions(config: Any) -> int | None:
    """How many positions a model knows; None where it computes them, as many as one likes."""
    if any(getattr(config, name, None) for name in ("rope_parameters", "rope_theta")):
        return None
    return getattr(config, "max_position_embeddings", None)


def choose_trained(model: PreTrainedModel, which: str) -> None:
    """Lets change what a run trains.

    which: "all", or "embeddings", input and output ones; other weights stay as they are.
    """
    if which == "all":
        return
    model.requires_grad_(False)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if module is not None:
            module.requires_grad_(True)


def make_optimizer(model: nn.Module, options: OptimizerOptions) -> AdamW:
    """AdamW over all weights; only those of two and more dimensions decay."""
    weights = [each for each in model.parameters() if each.requires_grad]
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]], lr=options.lr,
        betas=(options.beta1, options.beta2), eps=options.eps,
    )  # fmt: skip
