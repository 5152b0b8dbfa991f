"""Stock models of transformers, and the only room that knows transformers from inside.

    load --> obstacles --> probe --> adapt --> verify --> adapted_model
                             |                                |
                        layer_facts, rope      attention_hook, or fused where the family allows

- Loading: `load`, `placing`, `fits`, `prequantised`, `adapters`, `embedded`, `gguf_files`,
  `gguf_rope`.
- Asking a family: `probe`, `layer_facts`, `rope`, `frequencies`, `limits`, `rules`.
- Comparing with stock: `verify`, `sample`, `one_layer`, `plain_attention`.
- Running: `attention_hook`, `fused` with its `products`, and `watch`, `dropout`, `obstacles`, which
  say what stands in the way. `cut` makes a model of some of another's layers.

There is no list of families. It imports nothing of the engine, of methods or of recipes.
"""
