"""Tests that go all the way, as a caller sees it."""
