"""HTTP in: routes built from the catalogue, the gateway's own pages, problems, and the frame around every request."""

from app.api.application import Readiness, Services, build_app
from app.api.control import build_control

__all__ = ["Readiness", "Services", "build_app", "build_control"]
