"""A tokenizer.json made from vocabulary tables: of a GGUF, a SentencePiece or a tiktoken file."""
