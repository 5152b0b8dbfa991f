"""Methods: one published idea a file, in the folder of the question that it answers.

    question        folder          answers with            to
    where           positions/      frequencies, placement  models.rope, kv_cache.placement
    which keys      selection/      start_selector          kv_cache.selection
    what is kept    retention/      start_retention         kv_cache.retention
    how stored      codecs/         start_codec, _format..  kv_cache.codec
    guessed ahead   drafting/       start_drafter           speculative.drafter
                    verification/   start_verifier          speculative.verification
                    draft_length/   start_policy            speculative.draft_length
    which token     decoding/       start_law, start_mode   next_token_law, decoding_mode

`base` is the contract, `options` and `budget` are what a method is told, `slots` declares the
questions, `nested` reads a recipe inside a recipe. A method imports no other method.
"""
