"""What policies of the draft length are made of; no methods.

`acceptance_head`: a small network that says whether a draft token will be accepted.
"""
