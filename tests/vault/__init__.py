"""The master keys, the tokens in the database, the tokens that a server knows."""
