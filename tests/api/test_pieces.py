"""Stored pieces (KVShare): found anywhere, re-rotated, the most deviating computed again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lengthwise
from lengthwise.api.session import Session
from lengthwise.engine import mixed
from lengthwise.engine.blending import CHOICES
from lengthwise.errors import LengthwiseError, Refused, SessionError
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import chat_model

SHARED, OTHER = tokens(64, seed=7), tokens(40, seed=8)
STORED = [*tokens(20, seed=1), *SHARED, *tokens(10, seed=2)]
TEXT = [*tokens(33, seed=3), *SHARED, *tokens(14, seed=4)]
LAYERS = 6


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.2, num_hidden_layers=LAYERS))


@pytest.fixture(scope="module")
def pieces(model: lengthwise.Model) -> lengthwise.Pieces:
    found = lengthwise.Pieces(model)
    found.add(STORED)
    return found


def law(session: Session) -> Tensor:
    logits = session.held.last_logits
    assert logits is not None
    return torch.log_softmax(logits.float(), -1)


def kl(whole: Session, found: Session) -> float:
    return float((law(whole).exp() * (law(whole) - law(found))).sum())


def keys(session: Session, layer: int) -> Tensor:
    tail = session.held.head_groups(layer)[0].near.tail
    assert tail is not None
    return tail.key


@pytest.mark.parametrize("choose", CHOICES)
def test_all_of_it_computed_again_is_full_reading(
    model: lengthwise.Model, pieces: lengthwise.Pieces, choose: str
) -> None:
    whole = model.read(TEXT)
    session = pieces.read(TEXT, recompute="100%", choose=choose)
    assert torch.allclose(law(session), law(whole), atol=1e-4) and not session.lossy
    for layer in range(LAYERS):
        assert torch.allclose(keys(session, layer), keys(whole, layer), atol=1e-4)


@pytest.mark.parametrize("choose", CHOICES)
@pytest.mark.parametrize("chunk", [None, 10])
def test_what_is_stored_is_turned_and_what_is_chosen_is_new(
    model: lengthwise.Model, pieces: lengthwise.Pieces, choose: str, chunk: int | None
) -> None:
    whole = model.read(TEXT)
    session = pieces.read(TEXT, recompute="25%", choose=choose, chunk=chunk)
    # A key of the first layer depends on token and place alone; up to the check all are new.
    for layer in (0, 1):
        assert torch.allclose(keys(session, layer), keys(whole, layer), atol=1e-5)
    # What stands before the piece saw nothing that is stale.
    assert torch.allclose(keys(session, 5)[:, :33], keys(whole, 5)[:, :33], atol=1e-5)
    assert "64 of 111 tokens were found in pieces, 16 of them computed again" in session.lossy
    assert session.tokens == TEXT
    far = (keys(session, 5) - keys(whole, 5))[:, 33:97].abs().amax((0, 2))
    assert float(far.max()) > 1e-3


def test_what_is_kept_is_what_was_stored(
    model: lengthwise.Model, pieces: lengthwise.Pieces
) -> None:
    session = pieces.read(TEXT, recompute="0%")
    stored = model.read(STORED).held.head_groups(4)[0].near.tail
    mine = session.held.head_groups(4)[0].near.tail
    assert stored is not None and mine is not None
    assert torch.equal(mine.value[:, 33:97], stored.value[:, 20:84])
    assert not torch.equal(mine.key[:, 33:97], stored.key[:, 20:84])


@pytest.mark.parametrize("recompute", ["0%", "15%"])
def test_a_shared_beginning_is_exact(
    model: lengthwise.Model, pieces: lengthwise.Pieces, recompute: str
) -> None:
    text = [*STORED[:70], *OTHER]
    session = pieces.read(text, recompute=recompute)
    assert torch.allclose(law(session), law(model.read(text)), atol=1e-5)
    assert not session.lossy and "70 tokens are another text's beginning" in session.notes[0]
    again = pieces.read(STORED, recompute=recompute)
    assert torch.allclose(law(again), law(model.read(STORED)), atol=1e-5) and not again.lossy


def test_nothing_in_common_is_read_as_ever(
    model: lengthwise.Model, pieces: lengthwise.Pieces
) -> None:
    session = pieces.read(OTHER)
    assert torch.equal(law(session), law(model.read(OTHER))) and not session.lossy


def test_the_more_is_computed_again_the_nearer_and_chosen_beats_random(
    model: lengthwise.Model,
) -> None:
    found: dict[str, list[float]] = {}
    texts = [([*tokens(20, seed=s), *tokens(64, seed=s + 50), *tokens(9, seed=s + 60)],
              [*tokens(33, seed=s + 20), *tokens(64, seed=s + 50), *tokens(14, seed=s + 30)])
             for s in range(100, 112)]  # fmt: skip
    for stored, text in texts:
        pieces = lengthwise.Pieces(model)
        pieces.add(stored)
        whole = model.read(text)
        for choose in CHOICES:
            for share in ("0%", "30%", "100%"):
                session = pieces.read(text, recompute=share, choose=choose)
                found.setdefault(f"{choose} {share}", []).append(kl(whole, session))
    mean = {name: sum(values) / len(values) for name, values in found.items()}
    for choose in ("attended", "deviating", "gradual"):
        assert mean[f"{choose} 0%"] > mean[f"{choose} 30%"] > mean[f"{choose} 100%"]
        assert mean[f"{choose} 30%"] < mean["random 30%"], mean
    assert mean["attended 100%"] < 1e-6


def test_tokens_that_are_not_chosen_cost_no_more_than_the_first_layers(
    model: lengthwise.Model, pieces: lengthwise.Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [0] * LAYERS
    attend = mixed._Scattered.__call__

    def counted(self: mixed._Scattered, layer: int, *given: Tensor) -> Tensor:
        counts[layer] += given[0].shape[1]
        return attend(self, layer, *given)

    monkeypatch.setattr(mixed._Scattered, "__call__", counted)
    pieces.read(TEXT, recompute="25%", choose="deviating")
    computed = len(TEXT) - 64 + 16
    assert counts == [len(TEXT) + computed] * 2 + [computed] * (LAYERS - 2)


@pytest.mark.parametrize("refresh", [4, 64])
def test_stage_two_computes_again_what_is_attended_to(
    model: lengthwise.Model, pieces: lengthwise.Pieces, refresh: int
) -> None:
    still = pieces.read(TEXT, recompute="0%")
    session = pieces.read(TEXT, recompute="0%", refresh=refresh, every=4)
    held = session.held.fork()
    assert torch.allclose(law(session), law(still), atol=1e-5)
    held.end_prefill()
    from lengthwise.engine.loop import teacher_force

    teacher_force(held, OTHER[:10])
    # Twice while ten tokens were fed; before the first of them nothing had asked.
    assert held.retention.count == (8 if refresh == 4 else 64)
    rows = (held.retention.deviation[33:97] == 0).nonzero()[:, 0] + 33
    assert len(rows) == held.retention.count
    whole, plain = (each.held.head_groups(5)[0].near.tail.key for each in (model.read(TEXT), still))
    now = held.head_groups(5)[0].near.tail.key[:, : len(TEXT)]
    stale = torch.ones(len(TEXT), dtype=torch.bool)
    stale[rows] = False
    assert torch.equal(now[:, stale], plain[:, stale])
    assert not torch.equal(now[:, rows], plain[:, rows])
    if refresh == 64:
        # All of the piece is new; what stands behind it was computed while it was not.
        assert torch.allclose(now[:, :97], whole[:, :97], atol=1e-4)


def test_stage_two_is_the_same_with_drafting_and_in_a_batch(model: lengthwise.Model) -> None:
    texts = []
    for recipe in ("full", "lookup"):
        pieces = lengthwise.Pieces(model, recipe)
        pieces.add(STORED)
        session = pieces.read(TEXT, recompute="10%", refresh=4, every=3)
        found = session.ask(OTHER[:6], max_new_tokens=24, stop_ids=[])
        texts.append(found.token_ids)
        assert any("found in pieces" in note for note in found.metrics.notes)
        assert found.token_ids == session.ask(OTHER[:6], max_new_tokens=24, stop_ids=[]).token_ids
    assert texts[0] == texts[1]


def test_sessions_are_stored_and_what_was_used_longest_ago_leaves(
    model: lengthwise.Model,
) -> None:
    session = model.read(STORED)
    size = session.nbytes
    pieces = lengthwise.Pieces(model, cache_bytes=int(2.5 * size))
    pieces.add(session)
    session.compress()
    pieces.add(tokens(len(STORED), seed=20))
    assert len(pieces) == 2 and pieces.nbytes == 2 * size
    pieces.read(TEXT)
    pieces.add(tokens(len(STORED), seed=21))
    assert len(pieces) == 2 and "2 of" in repr(pieces)
    assert pieces.read(TEXT).lossy
    assert not pieces.read([*OTHER, *tokens(len(STORED), seed=20)]).notes
    with pytest.raises(LengthwiseError, match="in a store of"):
        pieces.add(tokens(len(STORED) * 3, seed=20))


def test_what_is_lossy_never_gets_among_what_is_exact() -> None:
    stock = tiny_model("llama", initializer_range=0.2, num_hidden_layers=LAYERS)
    model = lengthwise.wrap(stock, cache_bytes="64MB")
    pieces, plain = (
        lengthwise.Pieces(model),
        lengthwise.wrap(tiny_model("llama", initializer_range=0.2, num_hidden_layers=LAYERS)),
    )
    pieces.add(STORED)
    edited = model.read(STORED)
    edited.edit((2, 2), OTHER[:3])
    for session in (edited, pieces.read(TEXT, recompute="0%")):
        session.ask(OTHER[:5], max_new_tokens=4, stop_ids=[])
        prompt = [*session.tokens, *OTHER[:8]]
        found = model.generate(prompt, max_new_tokens=8, stop_ids=[])
        assert found.token_ids == plain.generate(prompt, max_new_tokens=8, stop_ids=[]).token_ids
        assert torch.allclose(law(model.read(prompt)), law(plain.read(prompt)), atol=1e-4)


def test_documents_are_found_inside_their_template() -> None:
    talking = chat_model()
    shared = "Ada signed the contract on the third of May, and Bob did not sign it at all. " * 2
    pieces = lengthwise.Pieces(talking)
    pieces.add("An old letter. " + shared)
    text = "Something else came first, at some length. " + shared + "The end."
    session = pieces.read(text, recompute="100%")
    whole = talking.read(text)
    assert session.tokens == whole.tokens and session.source == whole.source
    asked = {"max_new_tokens": 6, "stop_ids": []}
    assert session.ask("Who?", **asked).token_ids == whole.ask("Who?", **asked).token_ids
    lossy = pieces.read(text, refresh=4)
    assert lossy.ask("Who?", **asked).metrics.reused_tokens == len(lossy.held)


def test_a_session_of_pieces_is_saved_without_stage_two(
    model: lengthwise.Model, pieces: lengthwise.Pieces, tmp_path: object
) -> None:
    session = pieces.read(TEXT, refresh=4)
    session.save(f"{tmp_path}/pieces.session")
    again = lengthwise.open_session(f"{tmp_path}/pieces.session", model)
    assert again.lossy == session.lossy and torch.equal(law(again), law(session))
    still = pieces.read(TEXT)
    asked = {"max_new_tokens": 6, "stop_ids": []}
    assert again.ask([7], **asked).token_ids == still.ask([7], **asked).token_ids
    assert again.nbytes < session.nbytes


def test_what_heads_read_is_there_for_drafters(model: lengthwise.Model) -> None:
    def noting(ids: list[int]) -> Session:
        from lengthwise.api.session_source import source_of
        from lengthwise.engine.kv_cache.sequence import Sequence
        from lengthwise.engine.loop import prefill
        from lengthwise.recipes import recipe_of

        sequence = Sequence(model.adapted, model.plan())
        sequence.noted = []
        prefill(sequence, ids)
        return Session(model, recipe_of("full"), source_of(model, ids), sequence, ids)

    pieces = lengthwise.Pieces(model)
    pieces.add(noting(STORED))
    for share, rows in (("100%", slice(None)), ("0%", slice(0, 33))):
        found = pieces.read(TEXT, recompute=share).held.noted
        whole = noting(TEXT).held.noted
        assert found is not None and whole is not None
        mine, theirs = torch.cat(found), torch.cat(whole)
        assert mine.shape == theirs.shape
        assert torch.allclose(mine[rows], theirs[rows], atol=1e-4)


WRONG = [
    ({"recompute": "120%"}, "recompute='120%'"), ({"recompute": 15}, "recompute=15"),
    ({"recompute": "all"}, "recompute='all'"), ({"choose": "best"}, "choose='best'.*attended"),
    ({"check": 0}, "check=0.*1 to 5"), ({"check": 6}, "check=6"), ({"refresh": -1}, "refresh=-1"),
    ({"every": 0}, "every=0"), ({"every": 2.5}, "every=2.5"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_arguments_out_of_range_are_one_line(
    pieces: lengthwise.Pieces, given: dict[str, object], said: str
) -> None:
    with pytest.raises(LengthwiseError, match=said):
        pieces.read(TEXT, **given)  # type: ignore[arg-type]


def test_windows_that_hold_all_of_a_piece_go_with_it_but_for_stage_two() -> None:
    model = lengthwise.wrap(tiny_model("mistral", sliding_window=100, num_hidden_layers=4))
    pieces = lengthwise.Pieces(model)
    pieces.add(STORED)
    whole = model.read(TEXT)
    for choose in CHOICES:
        assert torch.allclose(law(pieces.read(TEXT, recompute="100%")), law(whole), atol=1e-4)
        session = pieces.read(TEXT, recompute="40%", choose=choose)
        assert torch.allclose(keys(session, 1), keys(whole, 1), atol=1e-5)
    with pytest.raises(Refused, match="have a window.*refresh=0"):
        pieces.read(TEXT, refresh=4)


@pytest.mark.parametrize("given", [4_000_000, "4000000", "4MB", "0.004 GB"])
def test_bytes_are_a_number_or_text(model: lengthwise.Model, given: int | str) -> None:
    assert lengthwise.Pieces(model, cache_bytes=given).cache_bytes == 4_000_000


def test_what_is_no_piece_is_refused(model: lengthwise.Model) -> None:
    for given in ("much", "-4", "9" * 5000, ""):
        with pytest.raises(LengthwiseError, match="cache_bytes"):
            lengthwise.Pieces(model, cache_bytes=given)
    with pytest.raises(Refused, match="no piece.*which entries stay"):
        lengthwise.Pieces(model, "snapkv(budget=25%, window=8, floor=8)").add(STORED)
    with pytest.raises(Refused, match="window of"):
        lengthwise.Pieces(lengthwise.wrap(tiny_model("mistral"))).add(STORED)
    with pytest.raises(Refused, match="no rotary"):
        lengthwise.Pieces(lengthwise.wrap(tiny_model("gpt2"))).add(STORED)
    store = lengthwise.Pieces(model)
    with pytest.raises(LengthwiseError, match="this store takes those of full"):
        store.add(model.read(STORED, "lookup"))
    edited = model.read(STORED)
    edited.edit((3, 4), [5])
    with pytest.raises(LengthwiseError, match="lossy session"):
        store.add(edited)
    changed = lengthwise.wrap(tiny_model("llama", seed=3))
    store = lengthwise.Pieces(changed)
    store.add(STORED)
    with torch.no_grad():
        changed.adapted.model.lm_head.weight.add_(0.1)
    with pytest.raises(SessionError, match="have changed"):
        store.read(TEXT)
