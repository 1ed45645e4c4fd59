"""The engine, the migrations, the revision."""
