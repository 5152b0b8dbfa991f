"""Our model in the harness: under `full` it answers what the harness's own hf model answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from lengthwise.errors import LengthwiseError, Refused
from lengthwise.evaluation.harness.model import LengthwiseLM
from lengthwise.integrations.lm_eval import NAME
from tests.evaluation.harness.harness_cases import LENGTH, SUMS, TASKS, save_model, save_tasks

LONG = "a sentence that is said again and again. " * 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("harness") / "model")


@pytest.fixture(scope="module")
def tasks(folder: Path) -> TaskManager:
    place = save_tasks(folder.parent / "tasks", folder)
    return TaskManager(include_path=str(place), include_defaults=False)


@pytest.fixture(scope="module")
def hf(folder: Path) -> HFLM:
    return HFLM(str(folder), dtype="float32", device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def ours(folder: Path) -> LengthwiseLM:
    return LengthwiseLM(str(folder), dtype="float32", device="cpu", batch_size=3)


def run(model: Any, tasks: TaskManager, **options: Any) -> Any:
    return lm_eval.simple_evaluate(
        model, tasks=list(TASKS), task_manager=tasks, bootstrap_iters=0, **options
    )


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=0, metadata=("toy", n, 1))
        for n, each in enumerate(arguments)
    ]


@pytest.mark.parametrize("chat", [False, True])
def test_five_kinds_of_task_score_as_with_hf(
    hf: HFLM, ours: LengthwiseLM, tasks: TaskManager, chat: bool
) -> None:
    theirs, mine = (run(each, tasks, apply_chat_template=chat) for each in (hf, ours))
    for task in TASKS:
        for name, value in theirs["results"][task].items():
            if isinstance(value, float):
                assert mine["results"][task][name] == pytest.approx(value, rel=1e-5), (task, name)
        for one, other in zip(theirs["samples"][task], mine["samples"][task], strict=True):
            assert one["prompt_hash"] == other["prompt_hash"]
            for given, found in zip(one["resps"], other["resps"], strict=True):
                _equal(given[0], found[0])
    if not chat:
        assert mine["results"]["toy_sum"]["exact_match,none"] == 0.5
        # Of the words half are what the model writes: greedy.
        assert mine["results"]["toy_word"]["acc,none"] == 0.5
        assert 0 < mine["results"]["toy_choice"]["acc_norm,none"] < 1
    assert mine["config"]["recipe"] == "full" and mine["config"]["cut_requests"] == 0


def _equal(one: Any, other: Any) -> None:
    if isinstance(one, tuple):
        assert other[0] == pytest.approx(one[0], abs=1e-4) and other[1] is one[1]
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=1e-3)
    else:
        assert other == one


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_odd_requests_are_answered_as_with_hf(
    hf: HFLM, ours: LengthwiseLM, batch_size: int
) -> None:
    ours.batch_size = batch_size
    pairs = requests(
        "loglikelihood", ("", "no context"), ("ends in spaces  ", "word"), ("a", " b"), ("a", " b"),
        ("<|endoftext|>begins so", " twice"), (LONG[:250], " the end"), (LONG, " the end"),
        (LONG[:200], LONG[200:340]),
    )  # fmt: skip
    for one, other in zip(hf.loglikelihood(pairs), ours.loglikelihood(pairs), strict=True):
        _equal(one, other)
    whole = requests("loglikelihood_rolling", ("x",), (LONG,), (LONG[:LENGTH],), (LONG[:257],))
    for total, found in zip(
        hf.loglikelihood_rolling(whole), ours.loglikelihood_rolling(whole), strict=True
    ):
        _equal(total, found)
    how = {"until": ["q", "zz"], "max_gen_toks": 20}
    asked = requests(
        "generate_until", ("once", how), (LONG, how), ("a", {"until": "e", "max_new_tokens": 9}),
        ("a", {**how, "do_sample": False, "temperature": 0.7, "num_beams": 1}), ("once", how),
    )  # fmt: skip
    assert hf.generate_until(asked) == ours.generate_until(asked)


def test_what_is_cut_off_is_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = LengthwiseLM(str(folder), dtype="float32", max_length=100)
    assert model.max_length == 100
    model.loglikelihood(requests("loglikelihood", ("a" * 120, "bcd"), ("a" * 98, "bcd")))
    # One more than is read: the last token is predicted only.
    assert (model.cuts.requests, model.cuts.tokens) == (1, 22)
    assert "1 of 2 requests are longer than the 100 tokens" in caplog.text
    model.generate_until(requests("generate_until", ("a" * 120, {"max_gen_toks": 30})))
    assert model.cuts.of_task("toy") == {0: 50}
    info = model.get_model_info()
    assert (info["cut_requests"], info["cut_tokens"], info["max_length"]) == (2, 72, 100)
    # Whole texts are read in windows, and nothing of them is cut.
    model.loglikelihood_rolling(requests("loglikelihood_rolling", ("a" * 120,)))
    assert model.cuts.requests == 2


def test_a_context_is_read_under_the_recipe(folder: Path, ours: LengthwiseLM) -> None:
    recipe = "snapkv(budget=25%, window=8, floor=8) + lookup"
    model = LengthwiseLM(str(folder), recipe, dtype="float32")
    (total, _), (plain, _) = (
        each.loglikelihood(requests("loglikelihood", (LONG[:200], " the end")))[0]
        for each in (model, ours)
    )
    ids = model.tok_encode(LONG[:200] + " the end")
    scores = ours.lengthwise.score(ids, "snapkv(budget=25%, window=8, floor=8)", prompt=200)
    assert total == pytest.approx(float(scores.sum()), abs=1e-4)
    assert abs(total - plain) > 1e-2
    asked = requests("generate_until", (LONG[:200], {"max_gen_toks": 8}))
    assert model.generate_until(asked) == [
        ours.lengthwise.generate(ids[:200], recipe, max_new_tokens=8).text
    ]


def test_sampled_texts_are_the_seed_s(folder: Path, ours: LengthwiseLM) -> None:
    how = {"max_gen_toks": 12, "do_sample": True, "temperature": 1.5, "top_k": 40}
    asked = requests("generate_until", ("once", how), ("once", how))
    one, again = ours.generate_until(asked), ours.generate_until(asked)
    other = LengthwiseLM(ours.lengthwise, seed=7).generate_until(asked)
    assert one == again and one[0] != one[1] and one != other


def test_an_instruction_to_stop_at_a_special_token_is_one(ours: LengthwiseLM) -> None:
    from lengthwise.evaluation.harness.arguments import Writing

    eos = ours.eot_token_id
    assert ours._stop_ids(Writing(("<|endoftext|>", "a"), 4)).count(eos) >= 2


def test_the_registry_knows_it_and_arguments_are_text(folder: Path) -> None:
    from lm_eval.api.registry import get_model

    assert get_model("hf") is HFLM
    made = get_model(NAME).create_from_arg_string(
        f'recipe="streaming(sinks=2, window=24) + lookup",pretrained={folder},dtype=fp32',
        {"batch_size": "auto", "device": "cpu", "max_batch_size": None},
    )
    assert str(made.recipe) == "streaming(sinks=2, window=24) + lookup"
    assert made.batch_size == 16 and made.max_length == LENGTH
    assert made.tokenizer_name == str(folder).replace("/", "__")
    assert made.chat_template(True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"recipe": "bm25"}, "bm25 chooses what enters the context"),
        ({"recipe": "snapkw"}, "snapkv"),
        ({"pretained": "x"}, "did you mean 'pretrained'"),
        ({"peft": "x"}, "there is no peft"),
        ({"trust_remote_code": True}, "own code is not run"),
        ({"max_length": 0}, "max_length=0: give a whole number"),
        ({"batch_size": "many"}, "batch_size='many'"),
    ],
)
def test_arguments_that_are_wrong_are_said(
    ours: LengthwiseLM, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(LengthwiseError, match=told):
        LengthwiseLM(ours.lengthwise, **arguments)


def test_requests_that_cannot_be_served_are_said(ours: LengthwiseLM) -> None:
    with pytest.raises(LengthwiseError, match="300 tokens; allowed are 1 to 256"):
        ours.loglikelihood(requests("loglikelihood", ("a", "b" * 300)))
    with pytest.raises(LengthwiseError, match="leaves no room for a prompt"):
        ours.generate_until(requests("generate_until", ("a", {"max_gen_toks": 256})))
    with pytest.raises(LengthwiseError, match="num_beams=4 is not done here"):
        ours.generate_until(requests("generate_until", ("a", {"num_beams": 4})))
    apart = LengthwiseLM(ours.lengthwise, "ape")
    with pytest.raises(Refused, match="this is one text"):
        apart.loglikelihood(requests("loglikelihood", ("a", "b")))
    template, ours.tokenizer.chat_template = ours.tokenizer.chat_template, None
    try:
        with pytest.raises(LengthwiseError, match="has no chat template"):
            ours.apply_chat_template([{"role": "user", "content": "a"}])
    finally:
        ours.tokenizer.chat_template = template


def test_a_prefix_that_prompts_share_is_kept_while_they_are_written(ours: LengthwiseLM) -> None:
    assert ours.lengthwise.prefix_cache is None
    asked = requests("generate_until", *((LONG[:180] + each, {"max_gen_toks": 4}) for each in SUMS))
    together = ours.generate_until(asked)
    assert together == [ours.generate_until([each])[0] for each in asked]
    assert ours.lengthwise.prefix_cache is None
