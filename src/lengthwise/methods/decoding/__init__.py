"""Decoding: how a text is chosen from the model's laws over next tokens, one method a file.

    logits of the model --start_law--> what may be said --sampling--> a token
    laws of several texts --start_mode--> the best of them

A law (`engine.next_token_law`) forbids, contrasts or routes; a mode (`engine.decoding_mode`) says
how texts grow. Neither sees the cache, so both run over every recipe.
"""
