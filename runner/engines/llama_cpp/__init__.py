"""llama.cpp through llama-cpp-python: adapter, its own server, recipe and pins."""
