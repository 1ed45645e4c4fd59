"""Calls that outlive their request: what they are, and where they are kept."""

from app.jobs.following import Follower, Followers, Snapshot
from app.jobs.job import FINISHED, Counts, Job, JobState, NewJob, Part, PartEnd, PartState
from app.jobs.outlook import Outlook, outlook
from app.jobs.quota import JobQuota
from app.jobs.reading import MOST_IDS, ids_of_csv, ids_of_list, ids_of_text
from app.jobs.results import FAILING, IdOutcome, IdResult, others_linked, results_of
from app.jobs.store import JobStore

__all__ = [
    "FAILING",
    "FINISHED",
    "MOST_IDS",
    "Counts",
    "Follower",
    "Followers",
    "IdOutcome",
    "IdResult",
    "Job",
    "JobQuota",
    "JobState",
    "JobStore",
    "NewJob",
    "Outlook",
    "Part",
    "PartEnd",
    "PartState",
    "Snapshot",
    "ids_of_csv",
    "ids_of_list",
    "ids_of_text",
    "others_linked",
    "outlook",
    "results_of",
]
