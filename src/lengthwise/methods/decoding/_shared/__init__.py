"""What several decoders share."""
