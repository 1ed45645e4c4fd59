"""What the process says of itself: logs."""

from app.telemetry.logs import configure_logs

__all__ = ["configure_logs"]
