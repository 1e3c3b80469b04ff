"""A proxy between client and server that injects one fault."""
