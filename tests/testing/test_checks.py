"""Every check fails for a method that is broken in its way, and for that one alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lengthwise.engine.kv_cache.contexts import FractionalSteps
from lengthwise.methods.base import Method
from lengthwise.testing import (
    FAMILIES,
    KINDS,
    Check,
    ConformanceError,
    Report,
    check_method,
    checks_for,
    parametrize_with_checks,
)
from lengthwise.testing.__main__ import main
from tests.testing import decoding_toys as made, prompting_toys as asking, toys

BROKEN: list[tuple[type[Method], str, str, str]] = [
    (toys.drafting(toys.Raising), "drafter_notes", "propose raised KeyError", "raises"),
    (toys.drafting(toys.Chatty), "drafter_notes", "it says: all is well", "`notes` is for"),
    (toys.drafting(toys.Deep), "drafter_depth", "tokens ahead where limit is", "stop at `limit`"),
    (toys.drafting(toys.Huge), "drafter_tokens", "guessed token 1000000000", "vocab_size"),
    (toys.drafting(toys.Unlikely), "drafter_tokens", "the prior nan", "`prior` of 0 to 1"),
    (toys.drafting(toys.Appending), "drafter_arguments", "changed the tokens", "copy what you"),
    (toys.drafting(toys.Scribbling), "drafter_arguments", "learn changed", "copy what you"),
    (toys.drafting(toys.Forging), "drafter_sources", "signed a guess as 'lookup'", "self.name"),
    (toys.drafting(toys.Silent), "drafter_guesses", "never guesses", "example()"),
    (toys.drafting(toys.Feeding), "drafter_greedy", "greedy: the text differs", "`fork`"),
    (toys.drafting(toys.FeedingWarm), "drafter_coupled", "coupled: the text differs", "`fork`"),
    (toys.drafting(toys.Likeliest), "drafter_rejection", "does not follow", "in the order"),
    (toys.drafting(toys.Knowing), "drafter_rejection", "follows the noise", "stream of noise"),
    (toys.drafting(toys.Heavy), "drafter_rejection", "no distribution", "probabilities"),
    (toys.verifying(toys.Jumping), "verifier_path", "which is no path", "each a child"),
    (toys.verifying(toys.Beyond), "verifier_path", "chose token 17", "of the vocabulary"),
    (toys.verifying(toys.Cutting), "verifier_arguments", "left 3 tokens of context", "cut it back"),
    (toys.verifying(toys.Trusting), "verifier_text", "where the model says", "`lossless` False"),
    (toys.choosing(toys.Broken), "policy_answers", "ZeroDivisionError", "a DraftDepth or None"),
    (toys.choosing(toys.Numbers), "policy_answers", "gave a int", "a DraftDepth or None"),
    (toys.choosing(toys.Adding), "policy_trees", "nobody made", "tree.keep"),
    (toys.choosing(toys.Choosy), "policy_draws", "left out guesses", "tree.drawn()"),
    (toys.choosing(toys.Sweeping), "policy_arguments", "changed the tree", "new tree"),
    (toys.selecting(toys.backwards), "selection_ids", "not in ascending order", "sort what"),
    (toys.selecting(toys.twice), "selection_ids", "repeated", "sort what"),
    (toys.selecting(toys.outside), "selection_ids", "there are", "each once"),
    (toys.retaining(toys.backwards), "retention_ids", "not in ascending order", "sort what"),
    (toys.retaining(toys.twice), "retention_ids", "held twice", "each once"),
    (toys.retaining(toys.outside), "retention_ids", "no such entry", "each once"),
    (toys.placing(toys.Shuffled), "documents", "in the order", "`order_free` only where"),
    (asking.prompting(asking.rewording), "prompt_identity", "as they are", "whole(documents)"),
    (asking.prompting(asking.greedy), "prompt_budget", "allowed are 1 to", "choose with `within`"),
    (asking.prompting(asking.misplaced), "prompt_sources", "stands where", "as it was given"),
    (asking.prompting(asking.forgetful()), "prompt_repeats", "second time", "keep nothing"),
    (made.deciding(made.Halving, True), "law_identity", "where greedy text is", "`Method.identity"),
    (made.deciding(made.Counting), "law_by_path", "in another order", "declare `by_path` False"),
    (made.deciding(made.Shared), "decoder_batch", "beside another text", "one sequence"),
    (made.searching(made.narrow), "mode_texts", "its `width` is 1", "entries of their own"),
    (made.searching(made.backwards), "mode_texts", "in the order of scores", "best first"),
    (asking.prompting(asking.surprised), "prompt_text_alone", "of text alone", "ask `logits_of("),
]
SOUND = [
    toys.drafting(toys.Again), toys.drafting(toys.Drawn), toys.verifying(toys.Shorter),
    toys.choosing(toys.All), toys.selecting(toys.sound), toys.retaining(toys.sound),
    toys.placing(FractionalSteps), asking.prompting(asking.front), made.deciding(made.Halving),
    made.searching(made.beams),
]  # fmt: skip


def of_its_role(cls: type[Method]) -> Report:
    """What came of the checks of a method's role, on one tiny model: the laws of all cost more."""
    return check_method(cls, FAMILIES[:1], only=lambda check: bool(check.kind.needs))


@pytest.mark.parametrize(
    ("cls", "check", "found", "hint"),
    BROKEN,
    ids=[f"{check}-{found}" for _, check, found, _ in BROKEN],
)
def test_a_broken_method_fails_the_one_check_and_is_told_what_to_look_at(
    cls: type[Method], check: str, found: str, hint: str
) -> None:
    (failure,) = of_its_role(cls).failures
    assert failure.check == check
    assert found in failure.found and hint in failure.hint


@pytest.mark.parametrize("cls", SOUND)
def test_a_sound_one_of_every_role_passes_all(cls: type[Method]) -> None:
    assert check_method(cls, FAMILIES[:1]).require().passed


def test_every_check_of_a_role_has_a_method_that_it_finds_out() -> None:
    assert {kind.name for kind in KINDS if kind.needs} == {check for _, check, *_ in BROKEN}


def test_all_failures_are_told_with_their_hints_and_expected_ones_with_their_reason() -> None:
    class Worse(toys.Deep):
        notes = ("first",)

    cls = toys.drafting(Worse)
    report = check_method(cls, FAMILIES[:1], {"drafter_depth": "it never looked"})
    assert [each.check for each in report.failures] == ["drafter_notes"]
    text = str(report)
    assert "FAILED drafter_notes" in text and "hint: the engine leaves out" in text
    assert "failed as expected drafter_depth: it never looked" in text
    assert not report.ok
    with pytest.raises(ConformanceError, match="drafter_notes"):
        report.require()


def test_an_expected_failure_that_passes_is_named() -> None:
    cls = toys.drafting(toys.Again)
    report = check_method(cls, FAMILIES[:1], {"identity": "once"})
    assert report.ok and report.unexpected == ["identity-llama"]


RETAINING = toys.retaining(toys.sound)


@parametrize_with_checks(
    [RETAINING, toys.drafting(toys.Silent)],
    expected_failed={"toy": {"drafter_guesses": "it is silent"}},
    families=FAMILIES[:1],
)
def test_the_decorator_gives_a_case_for_every_check(method: type[Method], check: Check) -> None:
    check(method)


def test_checks_have_readable_ids_and_reasons() -> None:
    mark = parametrize_with_checks(["lookup"], {"lookup": {"identity-phi": "why not"}})
    names, cases = mark.mark.args
    assert names == ("method", "check")
    ids = [case.id for case in cases]
    assert "lookup-identity-llama" in ids and "lookup-drafter_depth" in ids
    assert len(ids) == len(set(ids))
    (marked,) = [case for case in cases if case.marks]
    assert marked.id == "lookup-identity-phi" and marked.marks[0].kwargs["reason"] == "why not"


def test_a_failing_check_says_its_hint_where_pytest_shows_it() -> None:
    cls = toys.drafting(toys.Silent)
    (check,) = [check for _, check in checks_for(cls) if check.name == "drafter_guesses"]
    with pytest.raises(ConformanceError, match="(?s)never guesses.*hint: `propose` adds"):
        check(cls)


# The command line.

TOY = """
from dataclasses import dataclass
from typing import ClassVar
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.methods.base import Method, Question

class Guess(Drafter):
    def propose(self, tokens, tree, limit):
        tree.add(0, TOKEN)

@dataclass(frozen=True)
class Toy(Method):
    name: ClassVar[str] = "toy"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[str] = "none"
    lossless: ClassVar[bool] = True

    def start_drafter(self, model):
        return Guess()
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--family", "llama"])


def test_a_class_of_a_file_is_checked_without_being_registered(tmp_path: Path) -> None:
    path = tmp_path / "a_toy.py"
    path.write_text(TOY.replace("TOKEN", "tokens[-2]"))
    result = run(f"{path}:Toy")
    assert result.exit_code == 0 and "toy: conforms" in result.output
    path.write_text(TOY.replace("TOKEN", "10**9"))
    result = run(f"{path}:Toy")
    assert result.exit_code == 1
    assert "FAILED drafter_tokens" in result.output and "hint:" in result.output


def test_a_class_of_a_module_and_a_registered_name_are_checked() -> None:
    result = run("lengthwise.methods.draft_length.fixed:Fixed", "fixed")
    assert result.exit_code == 0 and result.output.count("fixed: conforms") == 2


def test_a_method_that_no_model_here_can_run_does_not_pass() -> None:
    result = run("medusa")
    assert result.exit_code == 1 and "medusa: nothing was checked" in result.output
    assert "refused on llama: medusa guesses by heads" in result.output


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("nothing_here", "unknown method 'nothing_here'"),
        ("nothing_here:Toy", "nothing_here cannot be imported: ModuleNotFoundError"),
        ("nowhere.py:Toy", "nowhere.py cannot be imported: FileNotFoundError"),
        ("lengthwise.methods.draft_length.fixed:Fixt", "has no 'Fixt'; its methods are Fixed"),
        ("json:JSONDecoder", "is not a dataclass that inherits"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_line(place: str, reason: str) -> None:
    result = run(place)
    assert result.exit_code == 1
    assert reason in result.output and len(result.output.splitlines()) == 1
