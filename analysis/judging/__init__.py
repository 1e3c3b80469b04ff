"""Evidence into verdicts: the gate, the catalog, relations built when they are asked for."""
