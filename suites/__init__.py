"""WHAT is asked and what is expected: suites, cases, golden text, the shipped model."""
