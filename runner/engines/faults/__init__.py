"""Known faults for the self-test: in an adapter, or between client and server."""
