"""Selections: which far keys a query reads. What is not read stays, and may be read later.

    blocks of keys      infllm, act_qkv, quest, lserve, hip
    single tokens       token_select, tidal, a2ats
    clusters of keys    squeezed
    lines of a prompt   minference

`reading` is what they share: how many tokens a query reads, and where the far keys lie. `bounds` is
what quest and lserve score pages by. `recall` and `codebooks` are what is measured on a model once.
"""
