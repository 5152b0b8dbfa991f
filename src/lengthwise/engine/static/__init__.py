"""Decoding steps of static shapes, which a GPU can replay as one graph.

- `rooms`: where what rows keep lies, as long as it stays there; `memory`: side by side.
- `step`: the step over it, of tensors alone; `graphs`: who captures it, and when the ordinary step
  serves.
"""
