"""What happened: records, their writer, and reading them."""

from app.audit.log import AuditLog
from app.audit.reader import list_records, show_records
from app.audit.records import Name, Record, administrative
from app.audit.writer import GroupWriter, append

__all__ = ["AuditLog", "GroupWriter", "Name", "Record", "administrative", "append", "list_records", "show_records"]
