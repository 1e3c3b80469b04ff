"""What is known of each architecture, as data: which key states which fact, and in which layout.

Standard library only: the engine child reads the configuration that its engine loaded by the same
rules as the supervisor reads the model's own files.
"""
