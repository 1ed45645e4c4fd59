"""`python -m app.audit.records` prints the records' JSON Schema, for `docs/audit.schema.json`."""

from app.audit.records.schema import schema_text

if __name__ == "__main__":
    print(schema_text(), end="")
