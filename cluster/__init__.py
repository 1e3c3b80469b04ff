"""WHERE and WHEN: the matrix, the fleet, the plan, placement, dispatch, resume."""
