"""The gateway's own routes for operators, under `/gateway/admin/`: for callers with a role. One noun a file."""

from __future__ import annotations

from fastapi import FastAPI

from app.api.admin.audit import add_audit_routes
from app.api.admin.caller import Caller
from app.api.admin.callers import add_caller_routes
from app.api.admin.grants import add_grant_routes
from app.api.admin.lanes import Breaker, Lane, Resumed, add_lane_routes, shown
from app.api.admin.tokens import add_token_routes
from app.api.admin.trials import TokenTest, add_trial_routes, shown_test

__all__ = ["Breaker", "Caller", "Lane", "Resumed", "TokenTest", "add_admin_routes", "shown", "shown_test"]


def add_admin_routes(app: FastAPI) -> None:
    """Add them."""
    add_lane_routes(app)
    add_token_routes(app)
    add_trial_routes(app)
    add_caller_routes(app)
    add_grant_routes(app)
    add_audit_routes(app)
