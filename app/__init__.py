"""The Flxpoint gateway: keeps the tokens, keeps the pace, keeps the record."""
