"""`python -m app.audit.records` prints the records' JSON Schema, for `docs/audit.schema.json`."""

from app.audit.records.schema import schema_text

print(schema_text(), end="")
