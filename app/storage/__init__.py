"""Where state is kept: the engine, the tables and their migrations. What a row means is its own room's business."""

from app.storage.clock import shared_now, shared_time
from app.storage.connection import Connection, Dialect, Executor, Rows, StorageError, Taken
from app.storage.engine import open_engine, reading, writing
from app.storage.lead import ALONE, Lead, leading
from app.storage.opening import insert_or_skip, lock_record, open_connection, open_reading_connection, within
from app.storage.rehearsal import rehearsed
from app.storage.revision import current_revision, touch_revision
from app.storage.server_rehearsal import rehearsed_server
from app.storage.thread import Crowded, DatabaseThread, ReadingThread

__all__ = [
    "ALONE",
    "Connection",
    "Crowded",
    "DatabaseThread",
    "Dialect",
    "Executor",
    "Lead",
    "ReadingThread",
    "Rows",
    "StorageError",
    "Taken",
    "current_revision",
    "insert_or_skip",
    "leading",
    "lock_record",
    "open_connection",
    "open_engine",
    "open_reading_connection",
    "reading",
    "rehearsed",
    "rehearsed_server",
    "shared_now",
    "shared_time",
    "touch_revision",
    "within",
    "writing",
]
