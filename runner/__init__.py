"""ONE cell on ONE machine: the engine child and the supervisor that records what it reports.

``runner.engines`` runs in the engine's own environment and may use only the standard library, numpy
and the engine; this file therefore imports nothing.
"""
