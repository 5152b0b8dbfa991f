"""Speculative decoding: several tokens are drafted, and one forward of the target verifies them.

    drafters --> tree --> draft length prunes it --> forward --> verification --> commit
       ^                                                              |
       `---------------- acceptance, step cost, drafter stats <-------'

- `tree`: draft tokens as a trie below the last committed token.
- `verification`: which of its nodes the target accepts.
- `acceptance`: how often guesses are accepted, by drafter and kind of guess.
- `draft_depth`: how many levels a drafter goes; `draft_length`: how many guesses are verified;
  `ranking`: the order in which they are.
- `step_cost`: seconds of a step by its number of guesses; `drafter_stats`: what a drafter costs and
  brings.
- `draft_model`: runs a model that drafts; `loading`: loads such models and holds them by name.

`engine.loop` and `engine.request` make a round of these. Drafters are methods.
"""
