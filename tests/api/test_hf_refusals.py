"""What generate of transformers may be asked that a recipe cannot do is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

import lengthwise
from lengthwise.api.hf_config import HONOURED, REFUSED
from lengthwise.errors import LengthwiseError
from tests.api.hf_runs import IDS, ours, plain

OTHER: dict[str, Any] = {
    "num_beams": 3, "num_beam_groups": 2, "diversity_penalty": 0.5, "constraints": [1],
    "force_words_ids": [[5]], "low_memory": True, "penalty_alpha": 0.6, "dola_layers": "high",
    "guidance_scale": 1.5, "token_healing": True, "use_mtp": True, "prompt_lookup_num_tokens": 3,
    "assistant_early_exit": 1, "speculation_type": "dflash", "is_assistant": True,
    "use_cache": False, "cache_implementation": "static", "cache_config": {"a": 1},
    "max_cache_len": 100, "compile_config": object(), "continuous_batching_config": object(),
    "output_attentions": True, "output_hidden_states": True,
}  # fmt: skip


def test_every_attribute_of_a_generation_config_is_honoured_or_refused() -> None:
    known = {name for name in vars(GenerationConfig()) if name != "_original_object_hash"}
    assert known == HONOURED.keys() | REFUSED.keys() and not HONOURED.keys() & REFUSED.keys()
    assert OTHER.keys() == REFUSED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name_before_anything_runs(
    stock: PreTrainedModel, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GenerationConfig(max_length=30)
    setattr(config, name, OTHER[name])
    monkeypatch.setattr("lengthwise.api.loading.wrap", lambda *_: pytest.fail("it was wrapped"))
    with pytest.raises(LengthwiseError, match=f"cannot honour {name}=") as error:
        lengthwise.custom_generate()(stock, IDS, generation_config=config)
    assert "\n" not in str(error.value)


def test_defaults_of_stock_are_not_refused(stock: PreTrainedModel) -> None:
    config = GenerationConfig(**GenerationConfig._get_default_generation_params())
    config.max_length = None
    assert ours(stock, generation_config=config).tolist() == plain(stock).tolist()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"num_beams": 3}, "num_beams=3"),
        ({"num_beams": 2, "num_return_sequences": 2}, "num_beams=2"),
        ({"guidance_scale": 2.0}, "guidance_scale=2.0"),
        ({"use_cache": False}, "use_cache=False"),
        ({"token_type_ids": torch.zeros_like(IDS)}, "token_type_ids"),
        ({"position_ids": torch.arange(5, 25)[None]}, "position_ids"),
        ({"output_hidden_states": True}, "output_hidden_states"),
        ({"synced_gpus": True}, "synced_gpus"),
        ({"prompt_lookup_num_tokens": 4}, "prompt_lookup_num_tokens=4"),
    ],
)
def test_arguments_of_generate_are_refused_by_name(
    stock: PreTrainedModel, given: dict[str, Any], word: str
) -> None:
    if "token_type_ids" in given:
        with pytest.raises(LengthwiseError, match=word):
            lengthwise.custom_generate()(stock, IDS, **_prepared(), **given)
        return
    with pytest.raises(LengthwiseError, match=f"cannot honour {word}"):
        ours(stock, **given)


def _prepared() -> dict[str, Any]:
    from transformers import MaxLengthCriteria

    return {"generation_config": GenerationConfig(), "stopping_criteria": [MaxLengthCriteria(30)]}


def test_a_cache_embeddings_and_an_assistant_of_the_users_are_refused(
    stock: PreTrainedModel,
) -> None:
    cache = DynamicCache(config=stock.config)
    with torch.no_grad():
        stock(IDS[:, :10], past_key_values=cache)
    for given in ({"past_key_values": cache}, {"past_key_values": DynamicCache()}):
        with pytest.raises(LengthwiseError, match="cannot honour past_key_values"):
            ours(stock, **given)
    with pytest.raises(LengthwiseError, match="cannot honour assistant_model"):
        ours(stock, assistant_model=stock)
    with pytest.raises(LengthwiseError, match="cannot honour inputs_embeds"):
        stock.generate(
            inputs_embeds=torch.zeros(1, 4, 64), max_new_tokens=4,
            custom_generate=lengthwise.custom_generate(),
        )  # fmt: skip


def test_options_are_known_or_refused(stock: PreTrainedModel) -> None:
    with pytest.raises(LengthwiseError, match="'temperature' is no option of custom_generate"):
        lengthwise.custom_generate("full", temperature=0.5)
    with pytest.raises(LengthwiseError, match="stop strings and streamed text need a tokenizer"):
        ours(stock, options={"stop": ["x"]})


def test_lossy_recipes_give_no_scores(stock: PreTrainedModel) -> None:
    with pytest.raises(LengthwiseError, match="cannot honour output_scores"):
        ours(stock, "lookup + typical", return_dict_in_generate=True, output_scores=True)
