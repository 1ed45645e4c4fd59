"""Proving the record: recomputing its chains, and telling apart what doesn't hold."""

from app.audit.verification.findings import Finding, Findings, Kind
from app.audit.verification.verification import Verified, verify

__all__ = ["Finding", "Findings", "Kind", "Verified", "verify"]
