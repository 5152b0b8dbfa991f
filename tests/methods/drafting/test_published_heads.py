"""Medusa heads and EAGLE layers, as published checkpoints: read, guess well, change no text."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import DynamicCache

from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import whole
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_depth import DraftDepth
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError, ModelError, Refused
from lengthwise.methods.base import Method
from lengthwise.methods.drafting._shared.trained_heads import read_checkpoint
from lengthwise.methods.drafting.eagle import DraftLayer, Eagle, EagleDrafter
from lengthwise.methods.drafting.medusa import PATHS, Medusa
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

VOCAB, HEADS = 24, 3
CACHES = ["full", "streaming(sinks=2, window=24)", "snapkv(budget=20, window=8)",
          "kivi(bits=4, group=8, residual=16)"]  # fmt: skip


@pytest.fixture(scope="module")
def target() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.12, vocab_size=VOCAB))


def prompt(seed: int, count: int = 40) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (count,), generator=generator).tolist()


def begin(target: AdaptedModel, seed: int, *drafters: Method, recipe: str = "full",
          sampling: Sampling | None = None, new: int = 48) -> Request:  # fmt: skip
    plan = recipes.resolve(recipe, target)
    made = tuple(lambda method=method: method.start_drafter(target) for method in drafters)
    sequence = Sequence(target, replace(plan, drafters=made))
    request = loop.begin(sequence, sampling or Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, prompt(seed), 16))
    return request


def written(target: AdaptedModel, seed: int, *drafters: Method, **settings: object) -> Request:
    request = begin(target, seed, *drafters, **settings)  # type: ignore[arg-type]
    for _ in loop.run(request, Fixed()):
        pass
    assert not any("failed" in note for note in loop.finish(request).notes)
    return request


@pytest.fixture(scope="module")
def corpus(target: AdaptedModel) -> list[tuple[Tensor, Tensor]]:
    """Texts that the model wrote itself, with the states its head read: `[n]` and `[n, hidden]`."""
    found = []
    for seed in range(100, 112):
        ids = torch.tensor(prompt(seed) + written(target, seed).output)
        output = target.model(ids[None], output_hidden_states=True)
        found.append((ids[40:], output.hidden_states[-1][0, 40:].detach()))
    return found


def save(folder: Path, config: dict[str, object], name: str, weights: dict[str, Tensor]) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if name.endswith(".safetensors"):
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / name)
    else:
        torch.save(weights, folder / name)
    return str(folder)


@pytest.fixture(scope="module")
def medusa(target, corpus, tmp_path_factory) -> str:
    """Heads that solve least squares for the token k + 1 places on."""
    weights = {}
    for k in range(1, HEADS + 1):
        x = torch.cat([states[: -k - 1] for _, states in corpus]).double()
        y = torch.cat([F.one_hot(ids[k + 1 :], VOCAB) for ids, _ in corpus]).double()
        ridge = x.T @ x + 0.01 * torch.eye(x.shape[1])
        solved = torch.linalg.solve(ridge, x.T @ y).T.float()
        size = x.shape[1]
        weights |= {
            f"{k - 1}.0.linear.weight": torch.zeros(size, size),
            f"{k - 1}.0.linear.bias": torch.zeros(size), f"{k - 1}.1.weight": 20 * solved,
        }  # fmt: skip
    config = {"medusa_num_heads": HEADS, "medusa_num_layers": 1}
    folder = tmp_path_factory.mktemp("heads") / "medusa"
    return save(folder, config, "medusa_lm_head.pt", weights)


def random_layer(target: AdaptedModel) -> tuple[dict[str, object], dict[str, Tensor]]:
    hidden = target.model.config.hidden_size
    config = {"hidden_size": hidden, "intermediate_size": 48, "num_attention_heads": 4,
              "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-6,
              "num_hidden_layers": 1, "rope_theta": 10000.0, "vocab_size": VOCAB,
              "max_position_embeddings": 2048}  # fmt: skip
    size = hidden // 4
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "embed_tokens.weight": (VOCAB, hidden), "fc.weight": (hidden, 2 * hidden),
        "fc.bias": (hidden,), "layers.0.self_attn.q_proj.weight": (hidden, hidden),
        "layers.0.self_attn.k_proj.weight": (2 * size, hidden),
        "layers.0.self_attn.v_proj.weight": (2 * size, hidden),
        "layers.0.self_attn.o_proj.weight": (hidden, hidden),
        "layers.0.mlp.gate_proj.weight": (48, hidden), "layers.0.mlp.up_proj.weight": (48, hidden),
        "layers.0.mlp.down_proj.weight": (hidden, 48),
    }  # fmt: skip
    weights = {k: 0.15 * torch.randn(v, generator=generator) for k, v in shapes.items()}
    weights["layers.0.post_attention_layernorm.weight"] = torch.ones(hidden)
    weights["embed_tokens.weight"] = target.model.get_input_embeddings().weight.detach().clone()
    return config, weights


@pytest.fixture(scope="module")
def eagle(target, corpus, tmp_path_factory) -> str:
    """A layer taught a little, on texts of the model's own."""
    config, weights = random_layer(target)
    folder = tmp_path_factory.mktemp("layers") / "eagle"
    path = save(folder, config, "pytorch_model.bin", weights)
    layer = DraftLayer(read_checkpoint(path, ["pytorch_model.bin"]), target)
    layer.fc = torch.nn.Parameter(layer.fc)
    layer.fc_bias = torch.nn.Parameter(layer.fc_bias)
    learned = [layer.fc, layer.fc_bias, *layer.net.parameters()]
    for each in learned:
        each.requires_grad_(True)
    optimizer = torch.optim.AdamW(learned, lr=5e-3, weight_decay=0)
    forward, logits = DraftLayer.forward.__wrapped__, DraftLayer.logits.__wrapped__
    for step in range(120):
        ids, states = corpus[step % len(corpus)]
        places = torch.arange(len(ids) - 1)
        out = forward(layer, ids[1:], states[:-1], places, DynamicCache(config=layer.net.config))
        loss = F.cross_entropy(logits(layer, out[:-1]), ids[2:])
        loss = loss + F.smooth_l1_loss(out, states[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights |= {k: v.detach() for k, v in layer.net.state_dict().items()}
    weights |= {"fc.weight": layer.fc.detach(), "fc.bias": layer.fc_bias.detach()}
    return save(folder, config, "pytorch_model.bin", weights)


def drafters(medusa: str, eagle: str) -> dict[str, Method]:
    return {"medusa": Medusa(path=medusa), "eagle": Eagle(path=eagle, depth=4, width=3, nodes=12)}


@pytest.mark.parametrize("recipe", CACHES)
@pytest.mark.parametrize("name", ["medusa", "eagle"])
def test_the_text_is_that_of_plain_decoding(target, medusa, eagle, name, recipe) -> None:
    method = drafters(medusa, eagle)[name]
    for sampling in (Sampling(), Sampling(temperature=0.9, seed=5)):
        plain = written(target, 1, recipe=recipe, sampling=sampling)
        guessed = written(target, 1, method, recipe=recipe, sampling=sampling)
        assert guessed.output == plain.output and guessed.metrics.drafted


def test_the_cache_of_a_layer_counts(target, medusa, eagle) -> None:
    methods = drafters(medusa, eagle)
    for name in methods:
        request = written(target, 1, methods[name])
        held = request.drafters[0].held()
        own = sum(each.nbytes() for each in held)
        assert request.metrics.kv_bytes == request.sequence.nbytes() + own
        assert (own > 0) == (name == "eagle")
    (held,) = held
    hidden = target.model.config.hidden_size
    # Keys and values of half as many heads as queries have, for all tokens but the newest ones.
    most = 2 * (hidden // 2) * 4 * len(request.sequence)
    assert 0.7 * most < held.nbytes() <= most
    fresh = methods["eagle"].start_drafter(target)
    assert fresh is not None and [each.nbytes() for each in fresh.held()] == [0]


@pytest.mark.parametrize("name", ["medusa", "eagle"])
def test_what_was_learned_comes_true(target, medusa, eagle, name) -> None:
    method = drafters(medusa, eagle)[name]
    found = [written(target, seed, method).metrics for seed in range(6)]
    taken = sum(metrics.accepted.get(name, 0) for metrics in found)
    # By chance one guess in VOCAB is right.
    assert taken / sum(metrics.steps for metrics in found) > 0.7


def test_heads_that_look_one_place_too_near_guess_worse(target, medusa, tmp_path) -> None:
    source = read_checkpoint(medusa, ["medusa_lm_head.pt"])
    shifted = {
        key if key[0] == "0" else f"{int(key[0]) - 1}{key[1:]}": value
        for key, value in source.weights.items()
    }
    config = source.config | {"medusa_num_heads": HEADS - 1}
    path = save(tmp_path / "shifted", config, "medusa_lm_head.safetensors", shifted)

    def taken(folder: str) -> int:
        method = Medusa(path=folder, nodes=10)
        return sum(written(target, s, method).metrics.accepted.get("medusa", 0) for s in range(6))

    assert taken(path) < 0.8 * taken(medusa)


def test_medusa_guesses_from_the_first_round_on_and_keeps_to_its_tree(target, medusa) -> None:
    request = begin(target, 2, Medusa(path=medusa))
    (drafter,) = request.drafters
    tree = Tree(request.pending)
    drafter.propose(request.context(), tree, 2)
    # No path of the tree is deeper than what is asked for, nor than there are heads.
    assert 1 < len(tree) <= 1 + sum(len(path) <= 2 for path in PATHS) and max(tree.depths) == 2
    states = request.sequence.model.model(
        torch.tensor([prompt(2)]), output_hidden_states=True
    ).hidden_states[-1][0, -1]
    torch.testing.assert_close(drafter._state, states, atol=1e-4, rtol=1e-4)


def asked(request: Request, limit: int = 4) -> tuple[EagleDrafter, Tree]:
    (drafter,) = request.drafters
    assert isinstance(drafter, EagleDrafter)
    tree = Tree(request.pending)
    drafter.draft_depth = DraftDepth()
    drafter.propose(request.context(), tree, limit)
    return drafter, tree


def prob_of(layer: DraftLayer, ids: Seq[int], states: Tensor, path: Seq[int]) -> float:
    """log q of the last token of a path, the layer reading everything anew as one chain.

    states: true ones, of all tokens but the last of ids; behind them the layer's own are used.
    """
    cache = DynamicCache(config=layer.net.config)
    after = torch.tensor(ids[1:])
    out = layer(after, states, torch.arange(len(after)), cache)[-1]
    for place, token in enumerate(path[:-1]):
        position = torch.tensor([len(after) + place])
        out = layer(torch.tensor([token]), out[None], position, cache)[-1]
    return float(layer.logits(out).log_softmax(-1)[path[-1]])


@pytest.mark.parametrize("steps", [0, 3])
def test_eagles_tree_is_what_each_path_gives_alone(target, eagle, steps) -> None:
    """Masks, positions, and the cache after rounds that accepted something."""
    request = begin(target, 3, Eagle(path=eagle, depth=4, width=3, nodes=20))
    for _ in range(steps):
        loop.step([request], Fixed())
    drafter, tree = asked(request)
    ids = list(request.context())
    states = target.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, :-1]
    assert max(tree.depths) == 4 and len(tree) == 21
    for node in range(1, len(tree)):
        path = [tree.tokens[each] for each in tree.path(node)[1:]]
        own = prob_of(drafter.layer, ids, states, path)
        assert tree.priors[node] == pytest.approx(float(torch.tensor(own).exp()), abs=1e-4)


def test_eagle_offers_the_likeliest_of_all_candidates(target, eagle) -> None:
    request = begin(target, 4, Eagle(path=eagle, depth=3, width=3, nodes=1000))
    _, whole = asked(request)
    assert len(whole) == 1 + 3 + 9 + 9

    def score(tree: Tree, node: int) -> float:
        return sum(float(torch.tensor(tree.priors[each]).log()) for each in tree.path(node)[1:])

    request = begin(target, 4, Eagle(path=eagle, depth=3, width=3, nodes=7))
    _, best = asked(request)
    wanted = sorted((score(whole, node) for node in range(1, len(whole))), reverse=True)[:7]
    found = sorted((score(best, node) for node in range(1, len(best))), reverse=True)
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_sequence_read_before_the_drafter_came_is_gone_on_with(target, medusa, eagle) -> None:
    sequence = Sequence(target)
    logits = loop.prefill(sequence, prompt(5))
    plain = written(target, 5).output
    for method in drafters(medusa, eagle).values():
        plan = replace(
            whole(sequence.plan), drafters=(lambda method=method: method.start_drafter(target),)
        )
        fork = sequence.fork()
        fork.plan = plan
        request = loop.begin(fork, Sampling(), 48, ())
        loop.start(request, logits)
        for _ in loop.run(request, Fixed()):
            pass
        metrics = loop.finish(request)
        assert request.output == plain and metrics.accepted.get(method.name) and not metrics.notes


def test_medusas_tree_is_the_released_one() -> None:
    assert len(PATHS) == len(set(PATHS)) == Medusa().nodes == 63
    for number, path in enumerate(PATHS):
        assert path[:-1] in ((), *PATHS[:number])


@pytest.mark.parametrize(
    ("names", "noted"),
    [((), None), (("medusa",), [1]), (("eagle",), [16, 16, 8]), (("medusa", "eagle"), [16, 16, 8])],
)
def test_states_are_noted_only_as_far_as_somebody_wants_them(
    target, medusa, eagle, names, noted
) -> None:
    methods = [drafters(medusa, eagle)[name] for name in names]
    made = tuple(lambda method=method: method.start_drafter(target) for method in methods)
    sequence = Sequence(target, replace(recipes.resolve("full", target), drafters=made))
    loop.begin(sequence, Sampling(), 4, ())
    plain = loop.prefill(Sequence(target), prompt(6), 16)
    torch.testing.assert_close(loop.prefill(sequence, prompt(6), 16), plain)
    assert (sequence.noted and [len(part) for part in sequence.noted]) == noted
    if noted is not None:
        ids = torch.tensor([prompt(6)])
        states = target.model.model(ids, output_hidden_states=True).hidden_states[-1][0]
        found = torch.cat(sequence.noted)
        torch.testing.assert_close(found, states[-len(found) :], atol=1e-4, rtol=1e-4)


def test_eagle_reads_the_prompt_before_it_is_asked(target, eagle) -> None:
    request = begin(target, 3, Eagle(path=eagle))
    (drafter,) = request.drafters
    # What follows the last of its tokens was not said yet.
    assert drafter.cache.get_seq_length() == len(prompt(3)) - 1
    drafter._read(request.context())
    assert drafter.cache.get_seq_length() == len(prompt(3)) and not drafter._features


def test_a_level_of_eagle_lists_the_places_of_its_tree_alone(target, eagle, monkeypatch) -> None:
    longest: list[int] = []
    level = EagleDrafter._level

    def noting(self, found, front, slots, states, position) -> Tensor:
        out = level(self, found, front, slots, states, position)
        longest.append(max(map(len, slots.values())))
        return out

    monkeypatch.setattr(EagleDrafter, "_level", noting)
    asked(begin(target, 3, Eagle(path=eagle, depth=4, width=3, nodes=20)))
    # A path of the tree, whatever the length of the text before it.
    assert longest == [1, 2, 3]


def test_what_guesses_is_made_once_for_a_model_and_goes_with_it(medusa, eagle) -> None:
    stock = tiny_model("llama", initializer_range=0.12, vocab_size=VOCAB)
    one, again = adapt(stock), adapt(stock, fuse=False)
    heads, layer = Medusa(path=medusa), Eagle(path=eagle)
    assert heads.heads(one) is heads.heads(one) is heads.heads(again)
    assert layer.layer(one) is layer.layer(one) is layer.layer(again)
    gone = weakref.ref(stock), weakref.ref(layer.layer(one)), weakref.ref(heads.heads(one))
    del stock, one, again
    gc.collect()
    assert [each() for each in gone] == [None] * 3


@pytest.mark.parametrize("method", [Medusa(), Eagle()])
def test_a_head_must_be_named(target, method) -> None:
    with pytest.raises(Refused, match=f"{method.name}\\(path=FOLDER\\)"):
        method.check(target)


def test_what_is_no_checkpoint_of_this_model_is_refused_before_the_run(
    target, medusa, eagle, tmp_path
) -> None:
    config, weights = random_layer(target)
    heads = read_checkpoint(medusa, ["medusa_lm_head.pt"])
    wide = {k: torch.zeros(2, 2) for k in heads.weights}
    three = {"d2t": torch.zeros(3), **weights}
    lacking = {k: v for k, v in weights.items() if "down_proj" not in k}
    more = {**weights, "layers.0.self_attn.q_norm.weight": torch.zeros(3)}
    eagles, name = "pytorch_model.bin", "medusa_lm_head.safetensors"
    cases: list[tuple[Method, str]] = [
        (Medusa(path=save(tmp_path / "a", heads.config, name, wide)), "trained for another model"),
        (Medusa(path=save(tmp_path / "b", {}, name, heads.weights)), "medusa_num_heads"),
        (Medusa(path=eagle), "has no medusa_lm_head"),
        (Medusa(path="/no/such folder"), "no such folder here"),
        (Eagle(path=save(tmp_path / "c", config, eagles, three)), "EAGLE-3"),
        (Eagle(path=save(tmp_path / "d", config, eagles, lacking)), "lacks layers.0.mlp.down_proj"),
        (Eagle(path=save(tmp_path / "e", config, eagles, more)), "q_norm.weight beyond"),
        (Eagle(path=save(tmp_path / "f", config | {"hidden_size": 8}, eagles, weights)),
         "trained for another model"),
        (Eagle(path=save(tmp_path / "g", {}, eagles, weights)), "names hidden_size"),
        (Eagle(path=save(tmp_path / "h", config, eagles, {"fc.weight": weights["fc.weight"]})),
         "lacks layers.0"),
    ]  # fmt: skip
    for method, words in cases:
        with pytest.raises(ModelError, match=words):
            method.check(target)
    (tmp_path / "h" / eagles).write_bytes(b"PK nonsense")
    with pytest.raises(LengthwiseError, match="damaged or of another kind"):
        Eagle(path=str(tmp_path / "h"), nodes=3).check(target)
