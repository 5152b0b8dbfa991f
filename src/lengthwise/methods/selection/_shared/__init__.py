"""What several selections measure on a model once."""
