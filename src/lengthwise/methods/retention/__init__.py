"""Retentions: what is kept, and what is deleted for good.

    at every step           streaming, h2o, sirllm
    at the end of a prompt  snapkv, pyramidkv
    by kind of head         razor, duo
    by layer                longgen

`counting` says how many entries a budget pays for. `votes` is what the last queries of a prompt
look at.
"""
