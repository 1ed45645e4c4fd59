"""HTTP in: routes built from the catalogue, the gateway's own pages, problems, and the frame around every request."""

from app.api.application import Readiness, Services, build_app

__all__ = ["Readiness", "Services", "build_app"]
