"""Draft length: how many tokens are drafted and verified at a step."""
