"""Everything that the author of a method needs, under one import.

    from lengthwise.plugin import Method, Question, option

A file of a third party imports nothing else of lengthwise. By role:

- every method: `Method`, `Question`, `Paper`, `option`, `Needs`, `Budget`, `Slot`, `LayerFacts`,
  `AdaptedModel`, and the errors that a user sees.
- retention: `ScoredRetention`; or `Retention`, which is shown a `CacheUpdate` and prunes a
  `HeadGroup`; `keep_by_head` keeps another number of entries for each head; `layer_tokens` and
  `affordable` turn a budget into entries. An `AskingRetention` runs the model behind the prompt.
  `HeadPolicy` and `sinks_and_recent`: heads that do not all keep the same from the first token on.
- selection: `ScoredSelection`; or `Selector`, which answers `Queries` with `SelectedKeys`. A
  `PromptSelector` looks at the whole prompt first, with all layers. A `PromptReader` attends for a
  prompt by itself and has decoding read everything. The index of a `RawSelector` is made of keys
  before rotation. `Renewal` computes entries of written tokens again.
- codecs: `ResidualCodec`; or `Codec`, `Format` and `Channels`.
- drafting: `ChainDrafter`; or `Drafter`, which adds to a `Tree`; `LengthPolicy` and `Verifier`
  decide how much is guessed and what is accepted.
- decoding: `NextTokenLaw` changes the law of the next token, and raises `ConstraintError` where
  none may follow. A `DecodingMode` feeds a `StepInput` of each text; texts end as `Alternative`s.
- positions: `FrequencyMethod`, `FrequencyRule` and `Placement`; `QueryScale` for logits that grow
  with the position; `ContextWeights` for documents that are read apart (`contexts`);
  `distance_bias` adds to logits.

`lengthwise.testing` holds a method to the laws.
"""

from lengthwise.engine.decoding_mode import Alternative, DecodingMode, StepInput
from lengthwise.engine.kv_cache.by_head import keep_by_head
from lengthwise.engine.kv_cache.codec import Channels, Codec, Format
from lengthwise.engine.kv_cache.contexts import ContextWeights
from lengthwise.engine.kv_cache.entries import (
    Deletable,
    Encoded,
    Growing,
    KVEntries,
    concatenate,
    pick,
)
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.head_policy import HeadPolicy, HeadTable, sinks_and_recent
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.query_moments import QueryMoments
from lengthwise.engine.kv_cache.query_scale import QueryScale
from lengthwise.engine.kv_cache.received import received_attention
from lengthwise.engine.kv_cache.retention import (
    AskingRetention,
    CacheUpdate,
    CacheView,
    Phase,
    ReadAside,
    Renewal,
    Retention,
    WatchLayer,
)
from lengthwise.engine.kv_cache.selection import (
    PromptReader,
    PromptSelector,
    Queries,
    RawSelector,
    SelectedKeys,
    Selector,
)
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_depth import DraftDepth, DrafterView, UpTo
from lengthwise.engine.speculative.draft_length import LengthPolicy
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Draws, Tree
from lengthwise.engine.speculative.verification import Lossless, Verifier, match, reject
from lengthwise.errors import ConstraintError, LengthwiseError, ModelError, RecipeError, Refused
from lengthwise.methods.base import Budget, Method, Needs, Paper, Question, needs_rope, option
from lengthwise.methods.bases import ChainDrafter, ScoredRetention, ScoredSelection
from lengthwise.methods.codecs.residual import ResidualCodec, join_index
from lengthwise.methods.positions.frequency import FrequencyMethod, needs_still_frequencies
from lengthwise.methods.retention.counting import (
    affordable,
    full_layers,
    layer_tokens,
    needs_full_layers,
)
from lengthwise.methods.selection.reading import by_key_head, chosen_tokens, far_keys, overhang
from lengthwise.methods.slots import Slot
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.rope import FrequencyRule, RopeFacts

__all__ = [
    "Acceptance",
    "AdaptedModel",
    "Alternative",
    "AskingRetention",
    "Budget",
    "CacheUpdate",
    "CacheView",
    "ChainDrafter",
    "Channels",
    "Codec",
    "ConstraintError",
    "ContextWeights",
    "DecodingMode",
    "Deletable",
    "DraftDepth",
    "Drafter",
    "DrafterView",
    "Draws",
    "Encoded",
    "Format",
    "FrequencyMethod",
    "FrequencyRule",
    "Growing",
    "HeadGroup",
    "HeadPolicy",
    "HeadTable",
    "KVEntries",
    "KVStore",
    "LayerFacts",
    "LengthPolicy",
    "LengthwiseError",
    "Load",
    "Lossless",
    "Method",
    "ModelError",
    "Needs",
    "NextTokenLaw",
    "Paper",
    "Phase",
    "Placement",
    "PromptReader",
    "PromptSelector",
    "Queries",
    "QueryMoments",
    "QueryScale",
    "Question",
    "RawSelector",
    "ReadAside",
    "RecipeError",
    "Refused",
    "Renewal",
    "ResidualCodec",
    "Retention",
    "RopeFacts",
    "Sampler",
    "Sampling",
    "ScoredRetention",
    "ScoredSelection",
    "SelectedKeys",
    "Selector",
    "Sequence",
    "Slot",
    "StepInput",
    "Tree",
    "UpTo",
    "Verifier",
    "WatchLayer",
    "affordable",
    "by_key_head",
    "chosen_tokens",
    "concatenate",
    "far_keys",
    "full_layers",
    "join_index",
    "keep_by_head",
    "layer_tokens",
    "match",
    "needs_full_layers",
    "needs_rope",
    "needs_still_frequencies",
    "option",
    "overhang",
    "pick",
    "received_attention",
    "reject",
    "sinks_and_recent",
]
