"""Selections: which far keys a query reads. What is not read stays, and may be read later.

    blocks of keys      infllm, quest, lserve, hip
    single tokens       token_select
    clusters of keys    squeezed

`reading` is what they share: how many tokens a query reads, and where the far keys lie.
`bounds` is what quest and lserve score pages by.
"""
