"""What several methods of decoding share."""
