"""How a call goes: the one HTTP client, the token's injection, scrubbing, and what an answer means. And how documents come."""

from app.upstream.classify import problem_of
from app.upstream.client import Upstream, open_upstream
from app.upstream.documents import Documents, open_documents
from app.upstream.reach import NotReached, reach

__all__ = ["Documents", "NotReached", "Upstream", "open_documents", "open_upstream", "problem_of", "reach"]
