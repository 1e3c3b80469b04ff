"""transformers on torch: adapter, recipe and pins."""
