"""A run: work orders, their dispatch onto Ray, progress, and how a run is resumed."""
