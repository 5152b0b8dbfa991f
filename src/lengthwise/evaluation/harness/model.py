"""A model of ours under one recipe, as a model of lm-evaluation-harness.

What is asked is what the harness's own `hf` model is asked. A context and its continuation are
tokenised together and then cut. An empty context is the BOS token, or EOS where there is none.
Texts that are scored whole go through the same windows, and a context that is too long loses its
beginning. What it loses is counted (`cuts`), said in the log and in the results.

How a recipe is applied:

- `loglikelihood`: the context is read as a prompt, under the recipe. What it drops or encodes at
  the end of a prompt it does there, and the continuation is scored on what is kept, fed as decoding
  would. Continuations of one context are forks of one reading.
- `generate_until`: as `Model.generate`. Of the model's generation_config only end tokens hold.
- `loglikelihood_rolling`: each window is read as one prompt. What a recipe does at the end of a
  prompt, or to tokens that are written, has no say there: positions, windows and selections have.

Drafting guesses in generation alone, and changes no score. Methods of prompting/ are refused: they
choose from documents for a question, and the harness gives one text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import jinja2
import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from tqdm import tqdm

from lengthwise._utils.suggestions import hint
from lengthwise._utils.version import __version__
from lengthwise.api.continuations import PREFIX_BYTES, Scored, score_continuations, score_text
from lengthwise.api.loading import load
from lengthwise.api.model import Model
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.harness.arguments import (
    MAX_GEN_TOKS,
    Writing,
    model_args,
    writing_of,
)
from lengthwise.evaluation.harness.cuts import Cuts
from lengthwise.recipes import recipe_of

logger = logging.getLogger(__name__)

# What the harness's command asks for where no device is named.
DEVICE = "cuda:0"
# Sequences of a batch where the harness leaves it to the model.
AUTO_BATCH = 16
# Keywords of `lengthwise.load` that model_args may have.
LOADING = ("kernel", "pack", "device_map", "max_memory", "offload_folder", "weights", "cache_bytes")
OPTIONS = (
    "pretrained", "recipe", "dtype", "device", "batch_size", "max_length", "max_gen_toks",
    "add_bos_token", "prefix_token_id", "enable_thinking", "chat_template_args", "seed", *LOADING,
)  # fmt: skip
Pair = tuple[tuple[str, str] | None, list[int], list[int]]


class LengthwiseLM(TemplateLM):  # type: ignore[misc]
    """See the module. cuts: what was cut off so far."""

    def __init__(
        self,
        pretrained: str | Model | None = None,
        recipe: str = "full",
        *,
        dtype: str | None = None,
        device: str | None = None,
        batch_size: int | str | None = 1,
        max_batch_size: int | None = None,
        max_length: int | None = None,
        max_gen_toks: int = MAX_GEN_TOKS,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        enable_thinking: bool | None = None,
        chat_template_args: Mapping[str, Any] | None = None,
        seed: int = 0,
        trust_remote_code: bool = False,
        **loading: Any,
    ) -> None:
        """
        Args:
            pretrained: what `lengthwise.load` takes, or a model it gave; None is the embedded one.
            recipe: as for `Model.generate`.
            dtype, device: as for `lengthwise.load`; "auto" leaves them to it, and so does "cuda:0",
                which the harness's command asks for unasked, where there is none.
            batch_size: contexts and texts at a time; "auto" is 16.
            max_batch_size: of "auto", at most.
            max_length: tokens that the model reads; None is what it was trained to read.
            max_gen_toks: tokens of a text where a task does not say.
            add_bos_token: None leaves it to the tokenizer.
            prefix_token_id: stands for an empty context; None is BOS, else EOS.
            enable_thinking, chat_template_args: for the chat template.
            seed: of texts that are sampled.
            trust_remote_code: must stay False: a model's own code is not run here.
            **loading: other keywords of `lengthwise.load`.

        Raises:
            LengthwiseError: for arguments that there are not, or not so.
            ModelError: where the model cannot be had.
            Refused: where the recipe cannot serve it.
        """
        super().__init__()
        _check_options(loading, trust_remote_code)
        self.recipe = recipe_of(recipe)
        self._owned = not isinstance(pretrained, Model)
        self.lengthwise: Model = (
            pretrained if isinstance(pretrained, Model)
            else load(pretrained, _given(dtype), _device(device), **loading)
        )  # fmt: skip
        self.lengthwise.plan(self.recipe)
        self.tokenizer: Any = self.lengthwise._tokenizer()
        self.batch_size = _batch_size(batch_size, max_batch_size)
        self.max_length = _whole("max_length", max_length) or self.lengthwise.trained_length
        self.max_gen_toks = _whole("max_gen_toks", max_gen_toks) or MAX_GEN_TOKS
        self.add_bos_token = add_bos_token
        self.custom_prefix_token_id = prefix_token_id
        self.chat_template_args = dict(chat_template_args or {})
        if enable_thinking is not None:
            self.chat_template_args["enable_thinking"] = enable_thinking
        self._seed, self._device = seed, self.lengthwise.adapted.device
        self.cuts = Cuts()
        self._lost: dict[int, int] = {}

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> Self:
        """A model of the text of --model_args, in which a recipe may have commas (`model_args`)."""
        more = {n: value for n, value in (additional_config or {}).items() if value is not None}
        return cls(**{**model_args(arg_string or ""), **more})

    # Tokens.

    @property
    def eot_token_id(self) -> int:
        found: int | None = self.tokenizer.eos_token_id
        if found is None:
            raise LengthwiseError("this tokenizer has no EOS token; give prefix_token_id=")
        return found

    @property
    def prefix_token_id(self) -> int:
        """What stands for an empty context."""
        if self.custom_prefix_token_id is not None:
            return self.custom_prefix_token_id
        found: int | None = self.tokenizer.bos_token_id
        return self.eot_token_id if found is None else found

    @property
    def tokenizer_name(self) -> str:
        name = getattr(self.tokenizer, "name_or_path", "") or self.lengthwise.name
        return str(name).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Ids of a text. One that begins with the text of the prefix token gets no second one."""
        special = self.add_bos_token if add_special_tokens is None else add_special_tokens
        if add_special_tokens is None and string.startswith(
            self.tokenizer.decode(self.prefix_token_id)
        ):
            special = False
        return self._encode(string, special)

    def _encode(self, string: str, special: bool | None) -> list[int]:
        options = {} if special is None else {"add_special_tokens": special}
        return list(self.tokenizer.encode(string, **options))

    def _prompt(self, string: str) -> list[int]:
        """Ids of what a text is to go on from."""
        bos = getattr(self.tokenizer, "bos_token", None)
        return self._encode(string, False if bos and string.startswith(bos) else self.add_bos_token)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The text of a conversation; without a system message where the template takes none."""
        options = {
            "tokenize": False, "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt, **self.chat_template_args,
        }  # fmt: skip
        if not getattr(self.tokenizer, "chat_template", None):
            raise LengthwiseError(
                f"{self.lengthwise.name} has no chat template: leave out --apply_chat_template"
            )
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, **options))
        except jinja2.exceptions.TemplateError:
            logger.warning("the chat template takes no system message: it is left out")
            kept = [message for message in chat_history if message["role"] != "system"]
            return str(self.tokenizer.apply_chat_template(kept, **options))

    # Requests.

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether it is what greedy decoding writes."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm)
        self.cuts.note(requests, self._lost, self.max_length)
        return found

    def _loglikelihood_tokens(
        self, requests: list[Pair], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        self._lost, pairs = {}, []
        for number, (text, context, continuation) in enumerate(requests):
            if not 0 < len(continuation) <= self.max_length:
                raise LengthwiseError(
                    f"the continuation {(text or ('', ''))[1][:60]!r} has {len(continuation):,} "
                    f"tokens; allowed are 1 to {self.max_length:,}"
                )
            over = len(context) + len(continuation) - (self.max_length + 1)
            if over > 0:
                self._lost[number] = over
            pairs.append((context[max(0, over) :], continuation))
        with tqdm(total=len(pairs), disable=disable_tqdm, desc="loglikelihood") as bar:

            def told(number: int, scored: Scored) -> None:
                bar.update()
                text = requests[number][0]
                if text is not None:
                    self.cache_hook.add_partial("loglikelihood", text, _answer(scored))

            found = score_continuations(
                self.lengthwise, pairs, self.recipe, batch_size=self.batch_size, told=told
            )
        return [_answer(scored) for scored in found]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of whole texts, in windows of what the model reads."""
        found = []
        for request in tqdm(requests, disable=disable_tqdm, desc="loglikelihood_rolling"):
            (text,) = request.args
            total = 0.0
            for context, predicted in utils.get_rolling_token_windows(
                self.tok_encode(text), self.prefix_token_id, self.max_length, 1
            ):
                window = [*context, predicted[-1]]
                logprobs = score_text(self.lengthwise, window, self.recipe)
                total += float(logprobs[-len(predicted) :].double().sum())
            found.append(total)
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What is written behind each context, up to a string that ends it."""
        alike: dict[Writing, list[int]] = {}
        for number, request in enumerate(requests):
            how = writing_of(request.args[1], self.max_gen_toks)
            alike.setdefault(how, []).append(number)
        found, lost = [""] * len(requests), dict[int, int]()
        with self._prefixes(), tqdm(
            total=len(requests), disable=disable_tqdm, desc="generate_until"
        ) as bar:  # fmt: skip
            for how, numbers in alike.items():
                prompts = {n: self._fitting(requests[n].args[0], how, n, lost) for n in numbers}
                # Long ones first, and next to each other those that begin alike.
                order = sorted(numbers, key=lambda n: (-len(prompts[n]), prompts[n]))
                for start in range(0, len(order), self.batch_size):
                    part = order[start : start + self.batch_size]
                    texts = self._write([prompts[n] for n in part], part, how)
                    for number, text in zip(part, texts, strict=True):
                        found[number] = text
                        asked = requests[number].args
                        self.cache_hook.add_partial("generate_until", asked, text)
                        bar.update()
        self.cuts.note(requests, lost, self.max_length)
        return found

    def _fitting(self, text: str, how: Writing, number: int, lost: dict[int, int]) -> list[int]:
        """A prompt that leaves room for what is written, its beginning cut off where it must be."""
        room = self.max_length - how.most
        if room < 1:
            raise LengthwiseError(
                f"max_gen_toks={how.most} leaves no room for a prompt in the {self.max_length:,} "
                "tokens this model reads; ask for less, or give max_length="
            )
        ids = self._prompt(text)
        if len(ids) > room:
            lost[number] = len(ids) - room
        return ids[-room:]

    def _write(self, prompts: list[list[int]], numbers: list[int], how: Writing) -> list[str]:
        options: Any = dict(how.sampling)
        written = self.lengthwise.generate_batch(
            prompts, self.recipe, max_new_tokens=how.most, stop=how.until,
            stop_ids=self._stop_ids(how), seed=[self._seed + n for n in numbers], **options,
        )  # fmt: skip
        return [each.require().text for each in written]

    def _stop_ids(self, how: Writing) -> list[int]:
        """The model's own, the tokenizer's, and special tokens by name: no text shows those."""
        special = {
            str(token): number
            for number, token in self.tokenizer.added_tokens_decoder.items()
            if token.special
        }
        named = [special[each] for each in how.until if each in special]
        eos = self.tokenizer.eos_token_id
        return [*self.lengthwise.stop_ids(), *([] if eos is None else [eos]), *named]

    @contextmanager
    def _prefixes(self) -> Iterator[None]:
        """Holds what prompts begin with, where the model does not do so itself."""
        model, before = self.lengthwise, self.lengthwise.prefix_cache
        if before is None:
            model.prefix_cache = prefix_cache_of(model.adapted, PREFIX_BYTES)
        try:
            yield
        finally:
            model.prefix_cache = before

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes beside its results."""
        return {
            "model_num_parameters": self.lengthwise.adapted.model.num_parameters(),
            "model_dtype": self.lengthwise.provenance.dtype_text, "recipe": str(self.recipe),
            "lengthwise": __version__, "max_length": self.max_length,
            "cut_requests": self.cuts.requests, "cut_tokens": self.cuts.tokens,
        }  # fmt: skip


def _answer(scored: Scored) -> tuple[float, bool]:
    return scored.total, scored.greedy


def _given(value: str | None) -> str | None:
    return None if value in (None, "auto") else value


def _device(given: str | None) -> str | None:
    """The device that is asked for; the harness asks for its default where the user names none."""
    if given == DEVICE and not torch.cuda.is_available():
        logger.warning(f"there is no {DEVICE} here: the model goes where lengthwise.load puts it")
        return None
    return _given(given)


def _batch_size(given: int | str | None, most: int | None) -> int:
    if isinstance(given, str) and given.partition(":")[0] == "auto":
        return min(AUTO_BATCH, _whole("max_batch_size", most) or AUTO_BATCH)
    return _whole("batch_size", given) or 1


def _whole(name: str, given: Any) -> int | None:
    """A whole number from 1; None for None."""
    try:
        if given is None or int(given) >= 1:
            return None if given is None else int(given)
    except (TypeError, ValueError):
        pass
    raise LengthwiseError(f"{name}={given!r}: give a whole number from 1")


def _check_options(loading: Mapping[str, Any], trust_remote_code: Any) -> None:
    for name in loading:
        if name not in LOADING:
            raise LengthwiseError(f"model_args: there is no {name}{hint(name, OPTIONS)}")
    if trust_remote_code:
        raise LengthwiseError(
            "trust_remote_code: a model's own code is not run here; leave it out, and see "
            "`lengthwise check` for what runs"
        )


__all__ = ["LengthwiseLM"]
