"""Papers that a builder and a curriculum rest on; the others stand in the file of their method."""

from __future__ import annotations

from lengthwise._utils.papers import Paper

DATASET_DECOMPOSITION = Paper(
    "Dataset Decomposition: Faster LLM Training with Variable Sequence Length Curriculum",
    "Pouransari et al.",
    2024,
    arxiv="2405.13226",
    venue="NeurIPS",
    code="https://github.com/apple/ml-dataset-decomposition",
)

__all__ = ["DATASET_DECOMPOSITION"]
