"""The self-test: known faults, where they are injected, and what the analysis finds."""
