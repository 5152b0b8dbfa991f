"""Papers that more than one method rests on; the others stand in the file of their method."""

from __future__ import annotations

from lengthwise._utils.papers import Paper

SPECULATIVE_DECODING = Paper(
    "Fast Inference from Transformers via Speculative Decoding",
    "Leviathan et al.",
    2023,
    arxiv="2211.17192",
    venue="ICML",
)
MEDUSA = Paper(
    "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads",
    "Cai et al.",
    2024,
    arxiv="2401.10774",
    venue="ICML",
    code="https://github.com/FasterDecoding/Medusa",
)
SWIFT = Paper(
    "SWIFT: On-the-Fly Self-Speculative Decoding for LLM Inference Acceleration",
    "Xia et al.",
    2025,
    arxiv="2410.06916",
    venue="ICLR",
    code="https://github.com/hemingkx/SWIFT",
)

__all__ = ["MEDUSA", "SPECULATIVE_DECODING", "SWIFT"]
