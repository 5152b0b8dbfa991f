"""Positions: where each token stands.

    other frequencies       pi, ntk, dynamic_ntk, yarn, giraffe, abf, clex
    and logits by position  entropy_abf
    other far positions     self_extend, lm_infinite

The first answer with a frequency rule, the others with a placement. `frequency` is what the first
share.
"""
