"""Retrieval heads are found by what they attend to, stored under their model and found again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part
from lengthwise.engine.attention.scores import attend_plain
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods import calibration
from lengthwise.methods.retention.razor import Razor
from lengthwise.models.adapt import adapt
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model


def test_scores_are_attention_to_earlier_occurrences() -> None:
    model = tiny("qwen3")
    found = calibration.calibrate_retrieval_heads(model, length=12, repeats=4)
    generator = torch.Generator().manual_seed(0)
    ids = [1] + torch.randint(0, 128, (12,), generator=generator).repeat(4).tolist()
    seen: dict[int, Tensor] = {}

    class Recorder(Sequence):
        def attend(self, layer, query, key, value, metadata):  # type: ignore[no-untyped-def]
            inputs = self.layers[layer]._inputs(query, key, value, metadata)
            facts = self.model.layers[layer]
            part = Part(inputs.near_query, inputs.near_key, torch.eye(49).expand(2, -1, -1),
                        torch.ones(49, 49).tril().bool())  # fmt: skip
            seen[layer] = attend_plain([part], facts.scaling)[0]
            return super().attend(layer, query, key, value, metadata)

    prefill(Recorder(model), ids)
    for layer, rows in seen.items():
        for name, after in (("echo", 0), ("induction", 1)):
            total = torch.zeros(4)
            for t in range(13, 49):
                earlier = [u + after for u in range(1, t) if (t - u) % 12 == 0]
                total += rows[:, t, earlier].sum(1)
            expected = (total / 36).reshape(2, 2).amax(1)
            assert torch.allclose(expected, torch.tensor(found[name][layer]), atol=1e-5)


def test_calibration_is_stored_under_its_model_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    model, other = tiny("llama"), adapt(tiny_model("llama", seed=7))
    with pytest.raises(Refused, match="lengthwise calibrate razor"):
        calibration.load("razor", model)
    found = calibration.retrieval_heads(model)
    assert "retrieval heads" in capsys.readouterr().err
    assert calibration.retrieval_heads(model)["echo"] == found["echo"]
    assert capsys.readouterr().err == ""
    assert calibration.find("razor", other) is None
    assert calibration.find("razor", model, rule="yarn(factor=2)") is None
    path = calibration.artefact_path("razor", model)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    path.write_text("{")
    with pytest.raises(LengthwiseError, match="damaged"):
        calibration.load("razor", model)
    monkeypatch.setattr(calibration, "SMALL", 0)
    with pytest.raises(Refused, match="lengthwise calibrate razor"):
        resolve([Razor()], other)
