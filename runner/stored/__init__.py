"""What is stored: the tables, the Parquet store, trace digests and references."""
