"""kl3m: tokens by rule are one token, where they stand as a whole, and sizes are powers of two."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from lengthwise.errors import RecipeError, TokenizerError
from lengthwise.tokenization.trainers import kl3m as module
from lengthwise.tokenization.trainers.kl3m import Kl3m, custom_tokens
from lengthwise.tokenization.trainers.measured import comes_back
from lengthwise.tokenization.trainers.training import train_tokenizer
from tests.tokenization.trainers.small_corpus import HARD, texts


def _trained(kind: Kl3m, size: int, place: Path) -> Tokenizer:
    return train_tokenizer(kind, texts(), size, place / "out").tokenizer


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return _trained(Kl3m(min_frequency=3), 2048, tmp_path_factory.mktemp("kl3m"))


def test_every_token_of_the_list_is_one_token(domain: Tokenizer) -> None:
    listed = custom_tokens()
    assert {"1776", "2049", "10", "999", "(a)", "(iv)", "</div>", "        ", "**"} <= set(listed)
    assert "2050" not in listed and "1000" not in listed and "1775" not in listed
    assert [each for each in listed if len(domain.encode(each).ids) != 1] == []


def test_none_of_them_cuts_another_word(domain: Tokenizer) -> None:
    # As an AddedToken "10" would be matched inside each of these.
    assert domain.encode("2010").tokens == ["2010"]
    assert "10" not in domain.encode("310857").tokens
    assert "(i)" not in domain.encode("f(i)").tokens
    assert domain.encode("see (i)").tokens[-1] == "(i)"
    assert "true" in domain.encode("x true").tokens
    assert "true" not in domain.encode("untrue").tokens


def test_it_is_filled_up_to_a_power_of_two(domain: Tokenizer, tmp_path: Path) -> None:
    assert domain.get_vocab_size() == 2048
    assert sorted(domain.get_vocab().values()) == list(range(2048))
    assert [text for text in HARD if not comes_back(domain, text)] == []
    plain = _trained(Kl3m(custom=False, pad=False), 290, tmp_path)
    assert plain.get_vocab_size() == 290


def test_runs_that_fill_it_up_are_tokens_and_come_back(domain: Tokenizer) -> None:
    for length in (9, 20, 35, 60):
        text = "a" + "\n" * length + "b" + " " * length + "c"
        assert comes_back(domain, text)
    assert len(domain.encode("\n" * 12).ids) == 1


@pytest.mark.parametrize(
    ("options", "longest"), [({}, 3), ({"longest": 4}, 4), ({"longest": 2}, 2)]
)
def test_no_token_has_more_characters_than_said(
    tmp_path: Path, options: dict[str, int], longest: int
) -> None:
    tokenizer = _trained(Kl3m(characters=True, min_frequency=2, **options), 1024, tmp_path)  # type: ignore[arg-type]
    special = {each.content for each in tokenizer.get_added_tokens_decoder().values()}
    assert max(len(each) for each in tokenizer.get_vocab() if each not in special) == longest
    size = tokenizer.get_vocab_size()
    assert size & (size - 1) == 0
    assert all(comes_back(tokenizer, text) for text in HARD)


def test_terms_of_a_file_are_tokens(tmp_path: Path) -> None:
    file = tmp_path / "terms.txt"
    file.write_text("F. Supp. 2d\nEBITDA\n\nEBITDA\n")
    kind = Kl3m(custom=False, terms=str(file), min_frequency=2)
    tokenizer = _trained(kind, 300, tmp_path)
    assert tokenizer.encode("EBITDA").tokens == ["EBITDA"]
    assert "F.ĠSupp.Ġ2d" in tokenizer.encode("see F. Supp. 2d, 5").tokens
    assert "EBITDA" not in tokenizer.encode("EBITDAX").tokens
    uncased = _trained(Kl3m(custom=False, terms=str(file), uncased=True), 300, tmp_path)
    assert uncased.encode("EBITDA").tokens == ["ebitda"]


def test_nfkc_comes_back_as_normalized(tmp_path: Path) -> None:
    tokenizer = _trained(Kl3m(custom=False, nfkc=True), 300, tmp_path)
    assert tokenizer.decode(tokenizer.encode("ﬁne ①").ids) == "fine 1"
    assert comes_back(tokenizer, "ﬁne ①")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"longest": 3}, "longest is of characters=true"),
        ({"characters": True, "terms": "x"}, "leave out terms"),
        ({"characters": True, "longest": 1}, "longest=1: allowed is .* at least 2"),
    ],
)
def test_options_that_say_nothing_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises((RecipeError, TokenizerError), match=told):
        Kl3m(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("characters", [False, True])
def test_special_tokens_fill_what_runs_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, characters: bool
) -> None:
    monkeypatch.setattr(module, "_FILL", 16)
    kind = Kl3m(custom=False, characters=characters)
    # One of the names is taken.
    found = train_tokenizer(kind, texts(), 300, tmp_path / "t", special=["<|unused1|>"]).tokenizer
    assert sorted(found.get_vocab().values()) == list(range(512))
    assert found.token_to_id("\n" * 9) is None
    assert (found.token_to_id("Ċ" * 15) is None) == characters
    assert len(found.encode("<|unused0|><|unused1|>").ids) == 2
    assert all(comes_back(found, text) for text in HARD)


def test_tokens_of_the_list_that_were_learned_too_are_told(tmp_path: Path) -> None:
    file = tmp_path / "terms"
    file.write_text("house\nneverseen\nriver\n")
    kind = Kl3m(custom=False, pad=False, terms=str(file), min_frequency=1)
    found = train_tokenizer(kind, texts(), 400, tmp_path / "t")
    assert (found.size, found.twice) == (398, 2)
    few = train_tokenizer(kind, ["unlike these"], 400, tmp_path / "t")
    assert few.size < 300 and few.twice == 0


@pytest.mark.parametrize(
    ("options", "normalize", "written"),
    [
        ({"nfkc": True}, "none", "ﬁling §5"),
        ({"uncased": True}, "none", "Plain Term"),
        ({}, "lowercase", "Plain Term"),
        ({}, "nfkc", "No.½"),
        ({"nfkc": True}, "lowercase", "ﬁling §5"),
    ],
)
def test_terms_are_normalized_as_texts_are(
    tmp_path: Path, options: dict[str, bool], normalize: str, written: str
) -> None:
    (tmp_path / "terms").write_text("ﬁling §5\nNo.½\nPlain Term\n")
    kind = Kl3m(custom=False, terms=str(tmp_path / "terms"), **options)  # type: ignore[arg-type]
    found = train_tokenizer(kind, texts(4), 300, tmp_path / "t", normalize=normalize)
    assert len(found.tokenizer.encode(written).ids) == 1
    assert str(kind) == found.kind


def test_terms_that_changed_are_another_training(tmp_path: Path) -> None:
    file = tmp_path / "terms"
    file.write_text("one term\n")
    kind = Kl3m(custom=False, terms=str(file))

    def told(what: str, share: float) -> None:
        if what == "measuring":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(kind, texts(4), 300, tmp_path / "t", told=told)
    file.write_text("another one\n")
    with pytest.raises(TokenizerError, match="files is "):
        train_tokenizer(kind, texts(4), 300, tmp_path / "t")
