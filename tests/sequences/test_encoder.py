"""An encoder in another process gives the ids that it gives here."""

from __future__ import annotations

import copy
import pickle

import pytest

from lengthwise.sequences.encoder import ByteEncoder, Encoder, byte_tokenizer

END = "<|endoftext|>"


@pytest.mark.parametrize("text", [END, f"one{END}two {END}", "plain", ""])
def test_special_tokens_are_text_in_another_process_too(text: str) -> None:
    encoder = Encoder(byte_tokenizer(), END)
    (here,) = encoder.encode([text])
    assert here.tolist() == list(text.encode())
    for other in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        (there,) = other.encode([text])
        assert there.tolist() == here.tolist()
        assert (other.end, other.fingerprint) == (encoder.end, encoder.fingerprint)


def test_bytes_are_bytes_in_another_process() -> None:
    (found,) = pickle.loads(pickle.dumps(ByteEncoder())).encode([END])
    assert found.tolist() == list(END.encode())
