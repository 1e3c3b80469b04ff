"""The verbs of the command, one file a group."""
