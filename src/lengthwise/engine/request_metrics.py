"""What a request cost."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RequestMetrics:
    """What a request cost. Seconds are wall clock of the engine, the device synchronised.

    ttft_s: from the start of prefill to the first token.
    decode_s: from the first token to the last, over `decoded` tokens in `steps` forwards.
    draft_s, verify_s: of decode_s, for drafting, choosing what to verify and learning from it, and
    for the forwards and what follows from them.
    drafted: guesses that were verified. accepted: those that were right, by drafter.
    kv_bytes: held at the end. kv_peak_bytes: the most held at any moment, decoded and gathered
    copies included. kv_offloaded_bytes: held at the end in CPU memory or on disk instead, and in
    none of the other figures. reused_tokens: of the prompt, those that a session had read before.
    notes: what the user has to know, one sentence each.
    tokens_read: of the prompt and of all that was read to write it; 0 where nothing was.
    figures: what methods say of their own work and cost, by their words.
    """

    prompt_tokens: int = 0
    ttft_s: float = 0.0
    decode_s: float = 0.0
    decoded: int = 0
    steps: int = 0
    drafted: int = 0
    draft_s: float = 0.0
    verify_s: float = 0.0
    kv_bytes: int = 0
    kv_peak_bytes: int = 0
    finish_reason: str = ""
    accepted: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    kv_offloaded_bytes: int = 0
    reused_tokens: int = 0
    tokens_read: int = 0
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed after the first token; 0 where nothing was decoded after it."""
        return self.decoded / self.decode_s if self.decode_s else 0.0

    @property
    def accepted_per_step(self) -> float:
        """Tokens committed a forward (1 without drafting)."""
        return self.decoded / self.steps if self.steps else 1.0

    def drafting(self) -> str:
        """Who guessed what share of the text, and where the time went; "" where nobody guessed."""
        if not self.decoded or not self.decode_s or not self.draft_s:
            return ""
        shares = [f"{name} {n / self.decoded:.0%}" for name, n in sorted(self.accepted.items())]
        draft, verify = self.draft_s / self.decode_s, self.verify_s / self.decode_s
        return (
            f"{self.accepted_per_step:.2f} tokens a step, guessed by "
            f"{', '.join(shares) or 'nobody'}; time: drafting {draft:.1%}, verifying {verify:.1%}, "
            f"the rest {max(0.0, 1 - draft - verify):.1%}"
        )


__all__ = ["RequestMetrics"]
