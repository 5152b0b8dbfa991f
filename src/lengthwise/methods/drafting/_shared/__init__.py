"""What several drafters are made of; no methods.

- `model_drafter`: base of all drafters that run a model; `draft_choice`: which model that is.
- `layer_subset`, `layer_skip_scorer`, `layer_search`: some of the target's layers as draft model.
- `distillation`: teaches a draft model what the target said.
- `tables`, `puct`: tables that are learned, and searched; `writable`: whether a file can be kept.
- `match_length`: how far a copied token is trusted; `trained_heads`: published checkpoints.
- `windowed_goodput`: the draft length beside Lookahead's window.
"""
