"""What happened: records, the chain that holds them together, their writer, and reading them."""

from app.audit.administration import append
from app.audit.anchoring import anchored
from app.audit.ledger import Ledger, Listener
from app.audit.log import AuditLog
from app.audit.reader import list_records, show_records
from app.audit.records import Name, Record, administrative
from app.audit.recovery import Recovery
from app.audit.seals import Signer, Trusted
from app.audit.spool import Spool
from app.audit.stream import streamed
from app.audit.writer import GroupWriter

__all__ = [
    "AuditLog",
    "GroupWriter",
    "Ledger",
    "Listener",
    "Name",
    "Record",
    "Recovery",
    "Signer",
    "Spool",
    "Trusted",
    "administrative",
    "anchored",
    "append",
    "list_records",
    "show_records",
    "streamed",
]
