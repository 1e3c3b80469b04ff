"""The probes of each stage: what is asked of the engine, and what is kept of its answer."""
