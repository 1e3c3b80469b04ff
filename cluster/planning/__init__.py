"""The plan: cells, nodes, which cell runs on which node, and why others are skipped."""
