"""mlx-lm: adapter, its own server, recipe and pins."""
