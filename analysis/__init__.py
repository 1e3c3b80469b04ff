"""WHAT IT MEANS: the gate, SQL views, verdicts and what people read. The only room with DuckDB."""
