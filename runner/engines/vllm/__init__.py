"""vLLM: adapter, its own server, recipe and pins."""
