"""What several selections share, and what is measured on a model once; no methods.

- `block_memory`: far tokens in blocks, each of which a few much attended keys stand for.
- `recall`: how alike layers are in what they attend to; `codebooks`: codes of un-rotated keys.
- `calibration_text`: what a model reads for that.
"""
