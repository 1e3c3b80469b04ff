"""The engine child: standard library, numpy and the engine, in the engine's own environment."""
