"""Your own model: from a path to a verdict, with nothing written by hand."""
