"""What policies of the draft length are made of; no methods."""
