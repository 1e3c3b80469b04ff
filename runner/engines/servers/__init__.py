"""Servers: the HTTP client, how one is started or found, and what each API shows."""
