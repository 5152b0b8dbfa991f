"""Training by length: schedules, the trainer, and the planner of sequence-parallel groups."""
