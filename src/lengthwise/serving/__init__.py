"""What serves many requests of one model: batch jobs, and what they read once."""
