"""WHAT is asked and what is expected: suites, cases, golden answers and the shipped model."""
