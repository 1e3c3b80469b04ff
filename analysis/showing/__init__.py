"""Verdicts for people: check, explain, report, JUnit and users' SQL."""
