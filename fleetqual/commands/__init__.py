"""The verbs of the command, one file for each group, with one module for output."""
