"""The ways to attend: small functions that multiply queries by keys, and which of them serves.

- `part`: what is asked, `Asked` over several `Part`s.
- `rows`: the joined scores of a few queries at a time.
- `flash`: the CPU's flash kernel, part by part; `varlen`: that of a GPU.
- `tree`: a kernel in Triton for any mask; `programs` is what runs on the device, `compiled` what
  such kernels share on the host.
- `stock`: `scaled_dot_product_attention`; `products`: plain products, for everything.
- `plain`: the readable twin of all of them.
- `merge`: partial results joined by their log-sum-exp.
- `gather`: the same over chosen keys, without a copy of them.
- `dequantise`: keys and values in few bits, decoded tile by tile.
- `ragged`: heads that keep unequal numbers of keys, in one call.
- `flex`: FlexAttention of PyTorch, compiled.
- `attempts`: kernels that are compiled where they run, and what becomes of those that fail.
- `kernel`: what a kernel says of itself, and the list of them; `choice`: which one serves, from
  what was timed on this machine (`tuning`).
"""
