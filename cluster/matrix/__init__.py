"""The matrix: its YAML schema, its checks, and the files that it names."""
