"""Selections: which far keys a query reads. What is not read stays, and may be read later.

    blocks of keys      infllm, act_qkv, quest, hip
    single tokens       token_select, tidal, a2ats
    clusters of keys    squeezed

`reading` is what they share: how many tokens a query reads, and where the far keys lie. `_shared`
holds the block memory of two of them, and what is measured on a model once.
"""
