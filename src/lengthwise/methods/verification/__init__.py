"""Verifiers: which draft tokens are accepted, in place of the engine's lossless verifier.

`typical` accepts what the model finds not too unlikely, and is lossy. A verifier gets the tree with
the target's logits, and returns a path of it with the token that follows.
"""
