"""What is written down of a finished data set, and what of it the user is told."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lengthwise._utils.progress import Progress
from lengthwise._utils.version import __version__
from lengthwise.sequences.builders.base import Described, settings_of
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.errors import NotAsAskedError
from lengthwise.sequences.files import digest
from lengthwise.sequences.store import FORMAT
from lengthwise.sequences.token_store import TokenStore


def make_manifest(
    builder: Described, encoder: Encoder, store: TokenStore, entries: list[dict[str, Any]]
) -> dict[str, Any]:
    """The manifest but for the settings of the build, from the entries of all parts."""
    shards = [shard for entry in entries for shard in entry["shards"]]
    dropped, figures = Counter[str](), Counter[str]()
    for entry in entries:
        dropped.update(entry["dropped"])
        figures.update(entry["figures"])
    tokens = sum(shard["tokens"] for shard in shards)
    if not shards:
        raise NotAsAskedError(
            f"nothing was built: all {store.tokens:,} tokens were dropped ("
            + "; ".join(dropped) + "); " + _smaller(builder)
        )  # fmt: skip
    context = figures.pop("context", 0)
    found = {
        "format": FORMAT, "version": __version__, "method": builder.name,
        "options": settings_of(builder), "max_length": builder.max_length,
        "document_mask": builder.document_mask, "target_token": builder.target_token,
        "tokenizer": {"file": "tokenizer.json", "fingerprint": encoder.fingerprint,
                      "vocab_size": encoder.vocab_size, "end_token": encoder.end_token,
                      "end_id": encoder.end},
        "added_tokens": {token: encoder.id_of(token) for token in builder.tokens},
        "documents": store.documents, "document_tokens": store.tokens,
        "skipped": store.facts["skipped"], "rows": sum(shard["rows"] for shard in shards),
        "tokens": tokens, "dropped": dict(dropped), "figures": dict(figures),
        "mean_context": round(context / tokens, 2), "buckets": _buckets(builder, shards),
        "shards": shards, "checksum": digest([shard["sha256"] for shard in shards]),
    }  # fmt: skip
    if "padding" in figures:
        found["padding_share"] = round(figures["padding"] / (figures["padding"] + tokens), 6)
    return found


def _smaller(builder: Described) -> str:
    """What to give so that something may be built."""
    if hasattr(builder, "min_length"):
        return "give a smaller --set min_length=N, or longer documents"
    return "give a smaller --max-length, or more documents"


def _buckets(builder: Described, shards: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    exponents = getattr(builder, "exponents", ())
    found = {f"{k:02d}": {"inputs": 1 << k, "rows": 0, "tokens": 0} for k in exponents}
    for shard in shards if found else ():
        # The shortest bucket there can be has the number 0, which files leave out.
        bucket = found[f"{shard.get('bucket', 0):02d}"]
        bucket["rows"] += shard["rows"]
        bucket["tokens"] += shard["tokens"]
    return found


def ends_lost(manifest: dict[str, Any]) -> str:
    """How many documents have lost their end token, why, and what keeps it; "" where none has."""
    figures = manifest["figures"]
    cut, rowless = figures.get("ends_cut", 0), figures.get("documents_without_row", 0)
    if not cut + rowless:
        return ""
    parts = [f"{rowless:,} are shorter than the shortest bucket"] if rowless else []
    if cut:
        parts.append(
            f"of {cut:,} it was in an end too short for that bucket (--set drop=start drops "
            "beginnings instead and keeps it)"
        )
    lost = cut + rowless
    return (
        f"{lost:,} of {figures['ends_kept'] + lost:,} documents are without their end token: "
        f"{'; '.join(parts)}; a smaller min_length drops less"
    )


def report(manifest: dict[str, Any], progress: Progress) -> None:
    """Tells what was skipped, dropped, cut, added or found empty."""
    for why, kind in manifest["skipped"].items():
        names = ", ".join(kind["first"]) + (", ..." if kind["count"] > len(kind["first"]) else "")
        documents = "document" if kind["count"] == 1 else "documents"
        progress.note(f"skipped {kind['count']:,} {documents}, {why}: {names}")
    if passed := manifest["not_read"]:
        kinds = ", ".join(f"{count:,} {why}" for why, count in list(passed.items())[:6])
        progress.note(
            f"not read: {sum(passed.values()):,} files or folders of the folders read ({kinds}"
            f"{', ...' if len(passed) > 6 else ''}); --suffix adds files by suffix, and what is "
            "named itself is read"
        )
    for why, tokens in manifest["dropped"].items():
        share = tokens / manifest["document_tokens"]
        progress.note(f"dropped {tokens:,} tokens ({share:.2%}), {why}")
    if lost := ends_lost(manifest):
        progress.note(lost)
    for bucket, facts in manifest["buckets"].items():
        if not facts["rows"]:
            progress.note(f"bucket {bucket} is empty: no piece has {facts['inputs'] + 1:,} tokens")
    if manifest["added_tokens"]:
        progress.note(
            f"{len(manifest['added_tokens'])} special tokens: embeddings need "
            f"{manifest['tokenizer']['vocab_size']:,} rows"
        )
