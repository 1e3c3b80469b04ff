"""A model's files, read without an engine: tensors, facts, digests and copies."""
