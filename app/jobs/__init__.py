"""Calls that outlive their request: what they are, and where they are kept."""

from app.jobs.holding import HeldJobs
from app.jobs.job import FINISHED, Counts, Job, JobKind, JobState, NewJob, Part, PartEnd, PartState
from app.jobs.retention import JobRetention
from app.jobs.run import Pause, Run
from app.jobs.store import JobStore

__all__ = [
    "FINISHED",
    "Counts",
    "HeldJobs",
    "Job",
    "JobKind",
    "JobRetention",
    "JobState",
    "JobStore",
    "NewJob",
    "Part",
    "PartEnd",
    "PartState",
    "Pause",
    "Run",
]
