"""Verifiers: which draft tokens are accepted, in place of the lossless verifier of the engine."""
