"""What happened: records, the chain that holds them together, their writer, and reading them."""

from app.audit.administration import append
from app.audit.anchoring import anchored
from app.audit.export import Format, heading, rendered
from app.audit.finding import Selected, Span, Stored
from app.audit.ledger import Ledger, Listener
from app.audit.log import AuditLog
from app.audit.reader import MOST_IN_PAGE, AuditReader, OutcomeMissing, Page, list_records
from app.audit.records import Name, Record
from app.audit.recovery import Recovery
from app.audit.seals import Seal, Signer, Trusted
from app.audit.spool import Spool
from app.audit.story import Story
from app.audit.stream import streamed
from app.audit.upgraded import is_unsealed, seal_upgraded
from app.audit.wanted import Wanted
from app.audit.writer import GroupWriter

__all__ = [
    "MOST_IN_PAGE",
    "AuditLog",
    "AuditReader",
    "Format",
    "GroupWriter",
    "Ledger",
    "Listener",
    "Name",
    "OutcomeMissing",
    "Page",
    "Record",
    "Recovery",
    "Seal",
    "Selected",
    "Signer",
    "Span",
    "Spool",
    "Stored",
    "Story",
    "Trusted",
    "Wanted",
    "anchored",
    "append",
    "heading",
    "is_unsealed",
    "list_records",
    "rendered",
    "seal_upgraded",
    "streamed",
]
