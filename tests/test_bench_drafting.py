"""The drafting suite: its prompts, what becomes a row, and what the command prints."""

from __future__ import annotations

import difflib
import inspect
import io
import json
import statistics
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from click.testing import CliRunner, Result as Called
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import lengthwise
from lengthwise import recipes
from lengthwise.cli.bench import bench as command
from lengthwise.engine import loop
from lengthwise.engine.roles import Drafter
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import DocumentError, LengthwiseError, RecipeError
from lengthwise.measure import drafting, drafting_suite
from lengthwise.measure.compare import Watcher
from lengthwise.measure.drafting import GREEDY, PROMPT_LOOKUP, bench, first_difference, top_gap
from lengthwise.measure.drafting_rows import DraftingRow, Result, Run, median_run, summary
from lengthwise.measure.drafting_table import show
from lengthwise.methods.base import Method, Question
from lengthwise.models.adapt import Adapted
from lengthwise.tasks import work
from lengthwise.tasks.documents import read_document
from lengthwise.tasks.prompt_files import read_prompts

VOCAB = 2048
STOP = 3
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
FIELDS = (
    "kind", "context", "context_tokens", "recipe", "plain", "model", "dtype", "device", "prompts",
    "rounds", "new_tokens", "tables", "batch", "temperature", "tokens", "tokens_per_s", "ratio",
    "ratio_low", "ratio_high", "tokens_per_round", "accept_lengths", "shares", "draft_s",
    "verify_s", "rest_s", "lossless", "equal", "divergences", "refused", "notes",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with a tokenizer of its own, saved as any model is."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [read_document().text[:100_000], inspect.getsource(difflib)],
        trainers.BpeTrainer(
            vocab_size=VOCAB, special_tokens=["<pad>", "<s>", "</s>", "<stop>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        ),
    )  # fmt: skip
    place = tmp_path_factory.mktemp("models") / "tiny"
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(place)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, vocab_size=VOCAB, max_position_embeddings=8192,
        initializer_range=0.15, pad_token_id=0, bos_token_id=1, eos_token_id=STOP,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> lengthwise.Model:
    return lengthwise.load(str(folder), "float32", "cpu")


@pytest.fixture(scope="module")
def rows(model: lengthwise.Model) -> Seq[DraftingRow]:
    """The whole suite at short context, one round."""
    wanted = ["lookup", "streaming(window=64) + lookup", "snapkv(budget=50%) + streaming"]
    return bench(model, wanted, (), ["short"], new_tokens=12, rounds=1).rows


@pytest.fixture
def count(model: lengthwise.Model) -> Callable[[work.Messages], int]:
    return lambda messages: len(drafting_suite.encode(model, messages))


@pytest.mark.parametrize(("context", "number"), [("short", work.PROMPTS), ("long", 1)])
@pytest.mark.parametrize("kind", work.KINDS)
def test_prompts_are_within_a_tenth_of_the_length_asked_for(kind, context, number, count) -> None:
    length = work.CONTEXTS[context]
    found = list(work.prompts(kind, length, number, count))
    assert (
        len({each.name for each in found}) == len({str(each.messages) for each in found}) == number
    )
    for each in found:
        assert abs(count(each.messages) - length) <= work.TOLERANCE * length
        assert "{text}" not in str(each.messages) and "{line}" not in str(each.messages)


def test_prompts_are_the_same_on_every_call(count) -> None:
    for kind in ("chat", "arithmetic", "code"):
        assert list(work.prompts(kind, 768, 2, count)) == list(work.prompts(kind, 768, 2, count))


def test_a_chat_has_three_turns_of_its_user(count) -> None:
    for each in work.prompts("chat", 768, work.PROMPTS, count):
        assert [m["role"] for m in each.messages] == ["user", "assistant"] * 2 + ["user"]


def test_a_code_prompt_holds_the_whole_function(count) -> None:
    each = next(work.prompts("code", 768, 1, count))
    assert inspect.getsource(statistics.quantiles) in each.messages[0]["content"]


def test_solved_problems_are_solved_rightly(count) -> None:
    checked = 0
    for each in work.prompts("arithmetic", 768, work.PROMPTS, count):
        for line in each.messages[0]["content"].splitlines():
            sides = line.split(" = ")
            if len(sides) == 2:
                assert eval(sides[0]) == int(sides[1])
                checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("summery", 768, 1), "did you mean 'summary'"),
        (("code", 64, 1), "at least"),
        (("code", 500_000, 1), "at most"),
        (("chat", 768, 6), "1 to 5"),
    ],
)
def test_prompts_that_cannot_be_had_are_refused(arguments, words, count) -> None:
    with pytest.raises(LengthwiseError, match=words):
        list(work.prompts(*arguments, count))


def test_every_kind_has_a_row_a_recipe_its_plain_loop_and_both_baselines(rows) -> None:
    wanted = ["full", GREEDY, PROMPT_LOOKUP, "lookup", "streaming(window=64)",
              "streaming(window=64) + lookup", "snapkv(budget=50%) + streaming"]  # fmt: skip
    for kind in work.KINDS:
        here = [row.recipe for row in rows if row.kind == kind]
        assert [name for name in wanted if name in here] == here
        assert set(wanted) <= {*here, wanted[-1]}


def test_in_float32_every_lossless_recipe_and_baseline_writes_as_plain_does(rows) -> None:
    ran = [row for row in rows if row.refused is None]
    assert ran and all(row.equal and not row.divergences for row in ran)


def test_ratios_are_to_the_recipe_without_its_drafters(rows) -> None:
    speed = {(row.kind, row.recipe): row.tokens_per_s for row in rows}
    for row in rows:
        if row.refused is None and row.tokens_per_s:
            assert row.ratio == pytest.approx(row.tokens_per_s / speed[row.kind, row.plain])
    assert {row.plain for row in rows if "streaming(window=64)" in row.recipe} == {
        "streaming(window=64)"
    }


def test_a_budget_that_cannot_serve_a_prompt_is_a_refused_row(model: lengthwise.Model) -> None:
    found = bench(model, ["h2o(budget=8B) + lookup"], ["copying"], ["short"], prompts=1,
                  new_tokens=4, rounds=1, baselines=False).rows  # fmt: skip
    reasons = {row.recipe: row.refused for row in found}
    assert reasons.pop("full") is None and len(reasons) == 2
    assert all("does not pay for one token" in reason for reason in reasons.values())


def test_a_refused_recipe_is_a_row_with_the_reason(rows) -> None:
    refused = [row for row in rows if row.refused is not None]
    assert [row.kind for row in refused] == list(work.KINDS) and refused[0].tokens is None


def test_totals_are_all_tokens_over_all_seconds(rows) -> None:
    for recipe in ("full", "lookup", GREEDY):
        mine = {row.kind: row for row in rows if row.recipe == recipe}
        for name, kinds in (("six kinds", work.SIX), ("grounded", work.GROUNDED)):
            parts = [mine[kind] for kind in kinds]
            tokens = sum(row.tokens for row in parts)
            seconds = sum(row.tokens / row.tokens_per_s for row in parts if row.tokens)
            assert mine[name].tokens == tokens and mine[name].prompts == len(kinds)
            assert mine[name].tokens_per_s == pytest.approx(tokens / seconds)


def test_totals_over_both_contexts_are_there_when_both_ran(model) -> None:
    found = bench(model, [], work.GROUNDED, new_tokens=4, rounds=1, baselines=False).rows
    groups = [(row.kind, row.context) for row in found if row.kind not in work.KINDS]
    assert groups == [("grounded", "short"), ("grounded", "long"), ("grounded", "both")]


def run(tokens: int, seconds: float, **changes: Any) -> Run:
    return Run(tokens, seconds, (tuple(range(tokens)),), (1,) * tokens, **changes)


def test_the_median_run_is_one_of_the_runs() -> None:
    runs = [run(10, 1.0), run(10, 5.0), run(10, 2.0)]
    assert median_run(runs) is runs[2]
    assert median_run(runs[:2]) is runs[1]


def test_a_row_sums_tokens_seconds_and_shares(rows) -> None:
    drafted = Run(30, 3.0, ((),), (3,) * 9 + (2, 1), 0.5, 2.0, {"lookup": 15, "recycling": 6})
    slow = replace(drafted, seconds=6.0, lengths=(3,) * 9)
    plain = run(30, 6.0)
    results = [Result("summary", "short", (n,), drafted, plain) for n in (100, 200)]
    row = summary(rows[0], results)
    assert (row.tokens, row.tokens_per_s, row.ratio, row.context_tokens) == (60, 10.0, 2.0, 150)
    assert row.tokens_per_round == 60 / 22 and row.shares == {"lookup": 0.5, "recycling": 0.2}
    assert row.accept_lengths == {1: 2, 2: 2, 3: 18} and row.ratio_low == row.ratio_high == 2.0
    mixed = summary(rows[0], [results[0], replace(results[1], run=slow)])
    assert (mixed.ratio_low, mixed.ratio_high) == (1.0, 2.0) and 1.0 < mixed.ratio < 2.0
    assert (row.draft_s, row.verify_s, row.rest_s) == (1.0, 4.0, 1.0)


def test_a_row_of_answers_of_one_token_has_no_speed(rows) -> None:
    row = summary(rows[0], [Result("chat", "short", (9,), run(0, 0.0), run(0, 0.0))])
    assert row.tokens_per_s is None and row.ratio is None and row.tokens_per_round is None


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2, 3], [1, 5, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [4], 0)],
)
def test_the_first_difference_counts_a_text_that_ends(one, other, place) -> None:
    assert first_difference(one, other) == place


def test_the_gap_is_that_of_the_plain_logits(model) -> None:
    prompt, after = list(range(10, 40)), [50, 60, 70]
    sequence = Sequence(model.adapted)
    loop.prefill(sequence, prompt)
    stock = model.adapted.model(torch.tensor([prompt + after])).logits[0, -1]
    first, second = stock.topk(2).values.tolist()
    assert top_gap(sequence, after) == pytest.approx(first - second, abs=1e-4)


def test_a_text_that_leaves_the_plain_one_says_where_and_how_closely(model, monkeypatch) -> None:
    true = drafting.stock_run

    def changed(*arguments: Any, **options: Any) -> Run:
        found = true(*arguments, **options)
        (output,) = found.outputs
        return replace(found, outputs=((*output[:2], STOP + 1, *output[3:]),))

    monkeypatch.setattr(drafting, "stock_run", changed)
    made = bench(model, [], ["summary"], ["short"], new_tokens=6, rounds=1)
    full, greedy, _ = made.rows
    assert full.equal and not greedy.equal
    (place,) = greedy.divergences
    assert (place.prompt, place.position) == ("summary/exceptions", 2) and place.gap >= 0
    out = io.StringIO()
    show(made, out)
    assert "new token 2 of summary/exceptions" in " ".join(out.getvalue().split())


def test_recipes_take_turns(model) -> None:
    class Noted(Watcher):
        names: ClassVar[list[str]] = []

        def stage(self, recipe: str, stage: str, tokens: int) -> None:
            self.names.append(recipe)

    bench(model, ["lookup"], ["code"], ["short"], new_tokens=3, rounds=3, watcher=Noted())
    assert Noted.names == ["full", GREEDY, PROMPT_LOOKUP, "lookup"] * 3


@dataclass(frozen=True)
class Noting(Method):
    """Notes for which model it was started."""

    name: ClassVar[str] = "noting"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[str] = "none"
    lossless: ClassVar[bool] = True
    started: ClassVar[list[Adapted]] = []

    def start_drafter(self, model: Adapted) -> Drafter:
        self.started.append(model)
        return Silent()


class Silent(Drafter):
    name = "noting"

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        """Guesses nothing."""


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Adapted]]:
    find = recipes.find
    monkeypatch.setattr(recipes, "find", lambda name: Noting if name == "noting" else find(name))
    Noting.started.clear()
    yield Noting.started


def test_cold_tables_are_of_one_recipe_and_one_round(model, noting) -> None:
    wanted = ["noting", "noting + lookup"]
    bench(model, wanted, ["code"], ["short"], prompts=2, new_tokens=3, rounds=2, baselines=False)
    waking, timed = noting[:2], [id(each) for each in noting[2:]]
    assert len(timed) == 8 and timed[:4] == timed[4:] and len(set(timed)) == 4
    assert model.adapted not in noting and not {*map(id, waking)} & {*timed}


class Reader(Silent):
    wants_states = True
    seen: ClassVar[list[int]] = []

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self.seen.append(sum(map(len, sequence.noted or ())))


def test_readings_keep_states_for_drafters_that_want_them(model, noting, monkeypatch) -> None:
    monkeypatch.setattr(Noting, "start_drafter", lambda self, model: Reader())
    bench(model, ["noting"], ["code"], ["short"], new_tokens=3, rounds=2, baselines=False)
    (_, ids) = drafting_suite.kinds_suite(model, ["code"], ["short"], 1, 3)["short", "code"][0]
    assert Reader.seen == [len(ids)] * 3


def test_warm_tables_serve_all_rounds_of_a_recipe(model, noting) -> None:
    bench(model, ["noting"], ["code"], ["short"], new_tokens=3, rounds=3, warm=True,
          baselines=False)  # fmt: skip
    assert len({id(each) for each in noting[1:]}) == 1 and len(noting) == 5


def test_an_interrupted_suite_keeps_its_finished_rows(model) -> None:
    def stop(row: DraftingRow) -> None:
        if row.kind == "rewriting":
            raise KeyboardInterrupt

    made = bench(model, [], ["chat", "rewriting"], ["short"], new_tokens=2, rounds=1,
                 baselines=False, finished=stop)  # fmt: skip
    assert made.interrupted and [row.kind for row in made.rows] == ["chat", "rewriting"]


def written(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


TURNS = {"question_id": 81, "category": "writing", "turns": ["Write a line.", "And another one."]}
CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}


def test_own_prompts_are_read_in_three_forms(tmp_path) -> None:
    path = written(tmp_path / "own.jsonl", TURNS, CHAT, {"prompt": "Say it.", "kind": "writing"})
    found = read_prompts(path)
    assert [(each.kind, each.name, each.turns) for each in found] == [
        ("writing", "81", ("Write a line.", "And another one.")), ("own", "2", ("Hi",)),
        ("writing", "3", ("Say it.",)),
    ]  # fmt: skip
    assert found[1].before == ({"role": "system", "content": "Be brief."},)
    array = tmp_path / "own.json"
    array.write_text(json.dumps([TURNS, {"prompt": "Say it."}]))
    assert [each.turns for each in read_prompts(array)] == [found[0].turns, ("Say it.",)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no prompt"),
        ("not json", "line 1: no JSON object"),
        ('{"prompt": "a"}\n{"text": "b"}', "line 2: give one of"),
        ('{"turns": []}', "must hold text"),
        ('{"turns": ["a", 3]}', "must hold text"),
        ('{"prompt": " "}', "must hold text"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "the user's last"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "the user's last"),
        ("[3]", "item 1: give one of"),
        ("[", "damaged"),
    ],
)
def test_a_file_of_prompts_says_what_is_wrong_and_where(tmp_path, text, words) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    with pytest.raises(DocumentError, match=words):
        read_prompts(path)


def test_turns_follow_on_plain_answers_and_have_rows_of_their_own(model, tmp_path) -> None:
    asked = read_prompts(written(tmp_path / "own.jsonl", TURNS, CHAT))
    rows = bench(model, ["lookup"], asked=asked, new_tokens=8, rounds=1, baselines=False).rows
    found = {(row.kind, row.recipe): row for row in rows}
    assert list(found) == [("writing", "full"), ("writing", "lookup"), ("own", "full"),
                           ("own", "lookup"), ("all kinds", "full"),
                           ("all kinds", "lookup")]  # fmt: skip
    assert [found[kind, "lookup"].prompts for kind in ("writing", "own", "all kinds")] == [2, 1, 3]
    assert all(row.equal and row.context == "own" for row in rows)
    suite = drafting_suite.own_suite(model, asked, ["writing"], None, 8, Sampling())
    (_, first), (second, ids) = suite["own", "writing"]
    answer = model.generate(first, max_new_tokens=8).text
    assert [m["content"] for m in second.messages] == ["Write a line.", answer, "And another one."]
    assert ids == drafting_suite.encode(model, second.messages) and second.name == "81, turn 2"


def test_own_prompts_of_a_kind_that_is_not_there_are_refused(model, tmp_path) -> None:
    asked = read_prompts(written(tmp_path / "own.jsonl", TURNS, CHAT))
    with pytest.raises(LengthwiseError, match="there are writing, own"):
        bench(model, ["lookup"], ["code"], asked=asked)
    long = [replace(asked[1], turns=("word " * 9000,))]
    with pytest.raises(LengthwiseError, match="prompt own/2 and its answer"):
        bench(model, ["lookup"], asked=long)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_prompts_decoded_at_once_give_each_what_it_gives_alone(model, temperature) -> None:
    options = {"prompts": 3, "new_tokens": 10, "rounds": 1, "temperature": temperature, "seed": 7}
    wanted = ["lookup", "streaming(window=64) + recycling"]
    alone = bench(model, wanted, ["code"], ["short"], **options).rows
    together = bench(model, wanted, ["code"], ["short"], batch=2, **options).rows
    refused = {row.recipe: row.refused for row in together if row.refused}
    assert list(refused) == [PROMPT_LOOKUP] and "one prompt at a time" in refused[PROMPT_LOOKUP]
    for one, more in zip(alone, together, strict=True):
        if more.refused is None and one.recipe not in (GREEDY, PROMPT_LOOKUP):
            assert (one.tokens, one.prompts, more.batch) == (more.tokens, more.prompts, 2)
            assert one.equal and more.equal
            assert sum(n * count for n, count in more.accept_lengths.items()) == more.tokens
    stock = {row.recipe: row for row in together}[GREEDY]
    assert stock.tokens_per_round == 1 and stock.equal is (None if temperature else True)


def test_samples_drawn_apart_are_not_compared(model) -> None:
    wanted = ["layers(keep=100%, draws=rejection) + fixed"]
    (*_, row) = bench(model, wanted, ["code"], ["short"], new_tokens=10, rounds=1,
                      baselines=False, temperature=1.0).rows  # fmt: skip
    assert row.recipe == wanted[0] and row.equal is None and row.tokens == 9


def test_the_command_takes_own_prompts_and_prints_accept_lengths(folder: Path, tmp_path) -> None:
    path = written(tmp_path / "own.jsonl", TURNS, {"prompt": "one two three " * 20})
    found = call(folder, "--prompt-file", str(path), "-r", "lookup", "--new-tokens", "24",
                 "--rounds", "1", "--no-baselines", "--accept-lengths")  # fmt: skip
    assert found.exit_code == 0, found.output
    assert "Tokens that a round brought" in found.stdout and "own own, lookup: 1:" in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 100
    mixed = call(folder, "--prompt-file", str(path), "--context", "short")
    assert mixed.exit_code == 2 and "--prompt-file has its own" in mixed.output


def call(folder: Path, *arguments: str) -> Called:
    return CliRunner().invoke(
        command, ["drafting", "--model", str(folder), "--dtype", "fp32", *arguments]
    )


def test_the_command_prints_a_json_line_a_row(folder: Path) -> None:
    found = call(folder, "--json", "-k", "summary", "-k", "code", "--context", "short", "-r",
                 "lookup", "--new-tokens", "4", "--rounds", "1", "--no-baselines")  # fmt: skip
    assert found.exit_code == 0, found.output
    printed = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(row["kind"], row["recipe"]) for row in printed] == [
        ("summary", "full"), ("summary", "lookup"), ("code", "full"), ("code", "lookup")
    ]  # fmt: skip
    assert all(tuple(row) == FIELDS for row in printed)
    assert tuple(field.name for field in fields(DraftingRow)) == FIELDS


def test_the_command_prints_a_table_of_100_columns(folder: Path) -> None:
    found = call(folder, "-k", "copying", "--context", "short", "-r", "lookup", "-r",
                 "streaming + snapkv", "--new-tokens", "4", "--rounds", "1")  # fmt: skip
    assert found.exit_code == 0, found.output
    assert max(map(len, found.stdout.splitlines())) <= 100
    for shown in ("copying", GREEDY, PROMPT_LOOKUP, "refused:", "Machine:", "tables cold"):
        assert shown in found.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("-k", "summery"), LengthwiseError, "did you mean 'summary'"),
        (("-r", "lockup"), RecipeError, "lookup"),
        (("-r", "lookup", "--new-tokens", "9000"), LengthwiseError, "trained to read 8,192"),
    ],
)
def test_bad_input_is_one_line(folder: Path, arguments, error, words: str) -> None:
    found = call(folder, *arguments)
    assert isinstance(found.exception, error) and words in str(found.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--prompts", "6"),
        ("--rounds", "0"),
        ("--context", "x"),
        ("--batch", "0"),
        ("--temperature", "-1"),
        ("--prompt-file", "no such file"),
    ],
)
def test_options_out_of_range_are_usage_errors(folder: Path, arguments) -> None:
    assert call(folder, *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"contexts": ["medium"]}, "short, long"),
        ({"prompts": 9}, "5"),
        ({"batch": 0}, "batch=0"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_the_function_checks_what_the_command_checks(model, options, words: str) -> None:
    with pytest.raises(LengthwiseError, match=words):
        bench(model, **{"recipes": ["lookup"], **options})
