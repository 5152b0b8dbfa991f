"""The engine: one sequence under one plan, and the loop that writes it on.

    plan --> opening --> request ---------------- guesses, verifies, says
                            |
                           loop: extend --------- one forward of new tokens
                            |      `-> models
                 kv_cache.sequence -------------- what is kept, layer by layer
                            `-> attention ------- exact attention over it

- `loop`: prefill in chunks, then rounds; `request`: one sequence being generated.
- `kv_cache/`: what is kept; `attention/`: how it is read, by `kernels/` that were timed here.
- `speculative/`: guesses and their price.
- `sampling`, `steering`: the next token; `decoding_mode`: other ways to write.
- `plan`: what a recipe came to; `guard`, `token_view`: what stands between us and plug-ins.
- `losses`, `forced`, `reach`: losses of a text, given tokens, and how far apart tokens stand.

It knows no method by name. Methods answer through the plan.
"""
