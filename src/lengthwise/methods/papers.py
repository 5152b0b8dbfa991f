"""Papers that two methods rest on."""

from __future__ import annotations

from lengthwise._utils.papers import Paper

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
