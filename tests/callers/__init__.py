"""Keys, callers in the database, callers that a server knows."""
