"""The catalogue and the one-parameter rule."""
