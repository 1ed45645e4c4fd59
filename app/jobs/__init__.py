"""Calls that outlive their request: what they are, and where they are kept."""

from app.jobs.job import FINISHED, Counts, Job, JobKind, JobState, NewJob, Part, PartEnd, PartState
from app.jobs.store import JobStore

__all__ = ["FINISHED", "Counts", "Job", "JobKind", "JobState", "JobStore", "NewJob", "Part", "PartEnd", "PartState"]
