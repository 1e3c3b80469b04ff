"""The stages of the chain, a module for each family: what is asked, and what is kept of it."""
