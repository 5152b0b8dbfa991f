"""Soft contexts: an encoder reads a text, and a model reads its embeddings in place of tokens.

- `base`: what a soft context is, and the encoder that it starts; the registry of them.
- `layers`: a trained copy of a model's first layers.
- `files`: encoders in files.
- `dolphin`, `extensible`: one method each. How they are trained stands in `training/soft.py`, and
  the session that is asked in `api/soft_context.py`.
"""
