"""WHERE and WHEN: the matrix, environments, the plan, the run and the reference."""
