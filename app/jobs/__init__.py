"""Calls that outlive their request: what they are, and where they are kept."""

from app.jobs.following import Follower, Followers, Snapshot
from app.jobs.holding import HeldJobs
from app.jobs.job import FINISHED, Counts, Job, JobKind, JobState, NewJob, Part, PartEnd, PartState
from app.jobs.outlook import Outlook, outlook
from app.jobs.pauses import Pause, Pauses
from app.jobs.quota import JobQuota
from app.jobs.reading import MOST_IDS, ids_of_csv, ids_of_list, ids_of_text
from app.jobs.results import FAILING, IdOutcome, IdResult, others_linked, results_of
from app.jobs.retention import JobRetention
from app.jobs.run import Run
from app.jobs.store import JobStore

__all__ = [
    "FAILING",
    "FINISHED",
    "MOST_IDS",
    "Counts",
    "Follower",
    "Followers",
    "HeldJobs",
    "IdOutcome",
    "IdResult",
    "Job",
    "JobKind",
    "JobQuota",
    "JobRetention",
    "JobState",
    "JobStore",
    "NewJob",
    "Outlook",
    "Part",
    "PartEnd",
    "PartState",
    "Pause",
    "Pauses",
    "Run",
    "Snapshot",
    "ids_of_csv",
    "ids_of_list",
    "ids_of_text",
    "others_linked",
    "outlook",
    "results_of",
]
