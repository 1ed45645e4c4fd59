"""Where state is kept: the engine, the tables and their migrations. What a row means is its own room's business."""

from app.storage.engine import open_engine, reading, writing
from app.storage.revision import current_revision, touch_revision

__all__ = ["current_revision", "open_engine", "reading", "touch_revision", "writing"]
