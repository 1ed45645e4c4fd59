"""How a call goes: the one HTTP client, the token's injection, scrubbing, and what an answer means."""

from app.upstream.classify import problem_of
from app.upstream.client import Upstream, open_upstream

__all__ = ["Upstream", "open_upstream", "problem_of"]
