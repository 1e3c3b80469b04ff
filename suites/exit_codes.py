"""The exit codes of the command; scripts rely on them."""

QUALIFIED = 0
"""All cells are qualified."""
DIVERGED = 1
"""Something diverged, or an expected difference no longer occurs (unexpected pass)."""
USAGE = 2
"""Wrong usage or configuration."""
UNJUDGED = 3
"""Something could not be judged (errors, missing or inconclusive cells), and nothing diverged."""
