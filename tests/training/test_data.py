"""Data sets that are read together have to be read in one way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.training.config import RunConfig, TrainingError
from lengthwise.training.data import Feed
from lengthwise.training.trainer import Trainer
from tests.training_runs import build_set, config, texts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mixed")
    for method in ("decompose", "concat", "concat-masked", "best-fit", "utk", "pair"):
        build_set(place, method, texts(80, 200), method)
        build_set(place, f"domain-{method}", texts(40, 200, seed=2, letters="ABC"), method)
    return place


def mixed(place: Path, base: str, domain: str) -> RunConfig:
    domains = {"more": {"data": f"domain-{domain}", "weight": 0.3}}
    return config(place, base, epochs=1, upsampling={"share": 0.5, "domains": domains},
                  data={"train": base})  # fmt: skip


@pytest.mark.parametrize(
    ("base", "domain", "what"),
    [
        ("decompose", "best-fit", "target_token"), ("decompose", "concat-masked", "target_token"),
        ("concat", "best-fit", "document_mask"), ("best-fit", "concat", "document_mask"),
        ("concat", "utk", "added_tokens"), ("utk", "pair", "added_tokens"),
        ("pair", "utk", "added_tokens"),
    ],
)  # fmt: skip
def test_a_domain_that_is_read_in_another_way_is_refused(
    place: Path, base: str, domain: str, what: str
) -> None:
    with pytest.raises(TrainingError) as refused:
        Feed(mixed(place, base, domain))
    said = str(refused.value)
    assert said.startswith(f"upsampling.domains.more.data ({place / f'domain-{domain}'}, {domain})")
    assert f"({place / base}, {base})" in said and what in said.partition("differ in")[2]


@pytest.mark.parametrize(
    ("base", "domain"),
    [("decompose", "decompose"), ("concat", "concat"), ("best-fit", "concat-masked"),
     ("utk", "utk"), ("utk", "concat")],
)  # fmt: skip
def test_a_domain_that_is_read_in_the_same_way_is_mixed(
    place: Path, base: str, domain: str
) -> None:
    feed = Feed(mixed(place, base, domain))
    found = [feed.draw(step).upsampled for step in range(feed.steps_per_epoch)]
    assert any(len(each.get("more", ())) for each in found)
    vocabulary = feed.manifest["tokenizer"]["vocab_size"]
    for step in range(feed.steps_per_epoch):
        assert all(int(batch.input_ids.max()) < vocabulary for batch in feed.read(step).batches)


@pytest.mark.parametrize("name, value, why", [
    ("fingerprint", "0", r"data.validation was built with another tokenizer"),
    ("end_id", 1, r"documents of data.validation end with .* build both with one --end-token"),
])  # fmt: skip
def test_data_of_another_tokenizer_is_refused(
    place: Path, tmp_path: Path, name: str, value: object, why: str
) -> None:
    other = build_set(tmp_path, "other", texts(20, 60), "concat")
    manifest = json.loads((other / "__about__" / "manifest.json").read_text())
    manifest["tokenizer"][name] = value
    (other / "__about__" / "manifest.json").write_text(json.dumps(manifest))
    data = {"train": "decompose", "validation": str(other)}
    with pytest.raises(TrainingError, match=why):
        Trainer(config(place, out=str(tmp_path / "run"), data=data))
