"""Where state is kept: the engine, the tables and their migrations. What a row means is its own room's business."""

from app.storage.engine import open_engine, reading, writing
from app.storage.rehearsal import rehearsed
from app.storage.revision import current_revision, touch_revision
from app.storage.thread import Crowded, DatabaseThread, ReadingThread

__all__ = [
    "Crowded",
    "DatabaseThread",
    "ReadingThread",
    "current_revision",
    "open_engine",
    "reading",
    "rehearsed",
    "touch_revision",
    "writing",
]
