"""Retentions: what is kept, and what is deleted for good.

    at every step           streaming, h2o, tova, sirllm
    at the end of a prompt  snapkv, pyramidkv, adakv, expected_attention, kvzip, ems
    by kind of head         razor, duo
    by layer                longgen

`counting` says how many entries a budget pays for. `votes` is what the last queries of a prompt
look at. `head_budgets` shares a layer's budget out among its heads. `steady` is what h2o and tova
share: one budget while a text is written.
"""
