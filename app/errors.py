"""What can go wrong with a call, as a tree of exceptions that are also RFC 9457 problems.

- GatewayError
  - BadRequest (400)
    - ParameterMissing · ParameterConflict · ParameterUnknown · ParameterInvalid
    - BodyNotAllowed
    - TokenAmbiguous
    - RequestMalformed · HostNotAllowed
    - UpstreamBadRequest
  - Unauthenticated (401)
    - CredentialsMissing · CredentialsInvalid · UpstreamTokenPresented
  - Forbidden (403)
    - OperationNotGranted · TokenNotGranted · TokenKindNotAccepted
    - RoleRequired · OriginNotAllowed · TicketIdsNotAllowed
  - NotFound (404) · MethodNotAllowed (405) · RequestTimeout (408) · Conflict (409)
  - BodyTooLarge (413) · UriTooLong (414) · MediaTypeNotSupported (415) · IdempotencyMismatch (422) · HeadersTooLarge (431)
  - UpstreamRefused (the upstream's own 4xx)
  - CallerRateExceeded · JobQuotaExceeded (429)
  - InternalError (500)
  - BadGateway (502)
    - UpstreamRejectedToken · UpstreamError · UpstreamInvalidResponse · UpstreamUnreachable
  - Unavailable (503)
    - QueueFull · WaitTooLong
    - TokenSuspended · TokenUnavailable · AuditUnavailable · PacingUnavailable · ShuttingDown · TooManyFollowers
  - TimedOut (504)
    - DeadlineExceeded · UpstreamTimeout
- StartRefused: the process can't start as it was told to; not a problem of any call

The first line of each class's docstring is the problem's title, the rest its explanation; both are shown at `/gateway/problems/<code>`.
"""

from __future__ import annotations

import functools
import inspect
from typing import ClassVar

__all__ = ["PROBLEMS", "GatewayError", "Member", "StartRefused"]

Member = str | int | bool | list[str] | list[int]


class GatewayError(Exception):
    """A call that can't be answered as asked.

    Args:
        detail: one sentence for the person who made the call. Never holds a secret.
        retry_after: seconds after which the same call may succeed, where that is known.
        uncertain: the upstream may have done the work all the same.
        recorded_as: what stands in sums of refusals instead of the code, where only the operator may learn it.
        members: further members of the problem, of this code's own.
    """

    code: str = ""
    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str,
        *,
        retry_after: float | None = None,
        uncertain: bool = False,
        recorded_as: str | None = None,
        **members: Member,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self._recorded_as = recorded_as
        self.retry_after = retry_after
        self.uncertain = uncertain
        self.members = members

    @property
    def http_status(self) -> int:
        """The status that the caller gets."""
        return self.status

    @property
    def recorded_as(self) -> str:
        """What sums of refusals call it."""
        return self._recorded_as or self.code

    @classmethod
    @functools.cache
    def title(cls) -> str:
        """The problem in a few words, the same for every occurrence."""
        return inspect.getdoc(cls).partition("\n")[0].rstrip(".")  # type: ignore[union-attr]

    @classmethod
    def explanation(cls) -> str:
        """What brings the problem about and what to do, in plain text."""
        return inspect.getdoc(cls).partition("\n")[2].strip()  # type: ignore[union-attr]


class BadRequest(GatewayError):
    """The request is at fault."""

    status = 400


class ParameterMissing(BadRequest):
    """No parameter was given.

    The operation takes exactly one of its declared query parameters, and the call had none. Nothing was sent upstream.
    `declared` names the parameters to choose from.
    """

    code = "parameter-missing"


class ParameterConflict(BadRequest):
    """More than one parameter was given.

    The operation takes exactly one of its declared query parameters, and the call had several. Nothing was sent upstream.
    Make one call for each. `given` names those the call had, `declared` those to choose from.
    """

    code = "parameter-conflict"


class ParameterUnknown(BadRequest):
    """A parameter is not declared.

    The call had a query parameter that the operation doesn't declare; names are case-sensitive. Nothing was sent upstream.
    `unknown` names it, `declared` those to choose from.
    """

    code = "parameter-unknown"


class ParameterInvalid(BadRequest):
    """A parameter's value is not a list of IDs.

    The value must be a comma-separated list of positive 64-bit integers in plain decimal digits, without empty places, and within
    the operation's cap. Nothing was sent upstream.
    """

    code = "parameter-invalid"


class BodyNotAllowed(BadRequest):
    """The operation takes no request body.

    The call carried a body, or announced one. Nothing was sent upstream. Send the IDs in the query.
    """

    code = "body-not-allowed"


class TokenAmbiguous(BadRequest):
    """Several tokens could be meant.

    The caller may use more than one token for the operation and has no default. Name one in the header `Gateway-Token`.
    `tokens` names those the caller may use.
    """

    code = "token-ambiguous"


class RequestMalformed(BadRequest):
    """The request can't be understood.

    A header that may stand once was given twice, the request broke HTTP's own rules, or its body isn't what the route takes.
    """

    code = "request-malformed"


class HostNotAllowed(BadRequest):
    """The request is for another host.

    The header `Host` names none of those that this gateway answers for.
    """

    code = "host-not-allowed"


class UpstreamBadRequest(BadRequest):
    """Flxpoint refused the request.

    The call kept the gateway's rules and was sent, and Flxpoint answered 400. What it said stands, cut at 2 KiB, in `upstream_body`.
    Often the parameter's name is not the one that the account's own reference gives: an operator can change it in the catalogue.
    """

    code = "upstream-bad-request"


class Unauthenticated(GatewayError):
    """The caller is not known."""

    status = 401


class CredentialsMissing(Unauthenticated):
    """No credential was given.

    Send a gateway key as `Authorization: Bearer <key>` or in `X-API-TOKEN`.
    """

    code = "credentials-missing"


class CredentialsInvalid(Unauthenticated):
    """The credential is not valid.

    It is unknown, expired, withdrawn, given twice, used from where its caller may not call from, or not a gateway key. The gateway doesn't
    say which.
    """

    code = "credentials-invalid"


class UpstreamTokenPresented(Unauthenticated):
    """A Flxpoint token was presented.

    `X-API-TOKEN` held something that is no credential of the gateway's, so it is taken for a Flxpoint token. Its value was kept nowhere.
    Callers of the gateway need no Flxpoint token: use the gateway key, and consider the token exposed.
    """

    code = "upstream-token-presented"


class Forbidden(GatewayError):
    """The caller may not do this."""

    status = 403


class OperationNotGranted(Forbidden):
    """The operation is not granted.

    The caller is known, but no grant allows it this operation.
    """

    code = "operation-not-granted"


class TokenNotGranted(Forbidden):
    """The token is not granted.

    The caller has no grant for a token of this name, whether or not there is one.
    """

    code = "token-not-granted"


class TokenKindNotAccepted(Forbidden):
    """The operation doesn't accept a token of this kind.

    Flxpoint has account, source and channel tokens, and each operation accepts certain kinds only. Nothing was sent upstream.
    `kind` is the token's, `accepted` the operation's.
    """

    code = "token-kind-not-accepted"


class RoleRequired(Forbidden):
    """The caller has not the role that this needs.

    What concerns the gateway itself is for callers with a role: `auditor` may read, `admin` may read and change. An operator gives it when
    the caller is added. `roles` names those that would do.
    """

    code = "role-required"


class OriginNotAllowed(Forbidden):
    """The page may not call.

    The header `Origin` names none of the origins that the caller's pages may have, or a ticket was used without the origin that it was
    made for.
    """

    code = "origin-not-allowed"


class TicketIdsNotAllowed(Forbidden):
    """The ticket is for other IDs.

    The ticket names the IDs that may be given, and for which parameter; the call had others, or gave them for another. Ask the backend
    that gave the ticket for another one.
    """

    code = "ticket-ids-not-allowed"


class NotFound(GatewayError):
    """There is nothing here.

    The path is none of the catalogue's and none of the gateway's own. Paths are exact: no trailing or doubled slash.
    """

    code = "not-found"
    status = 404


class MethodNotAllowed(GatewayError):
    """The path doesn't take this method.

    The header `Allow` names those that it takes.
    """

    code = "method-not-allowed"
    status = 405


class RequestTimeout(GatewayError):
    """The request didn't come in time.

    Its body must be whole 10 s after its headers, that of a batch 60 s.
    """

    code = "request-timeout"
    status = 408


class Conflict(GatewayError):
    """The change clashes with what is there.

    A name or a token's value is in use already, or what is to be changed is declared in the configuration file, or the result is asked
    for of a job that isn't finished. Or the first request with this `Idempotency-Key` still runs: its answer is given to who asks again,
    as `Retry-After` says.
    """

    code = "conflict"
    status = 409


class BodyTooLarge(GatewayError):
    """The request's body is too large.

    The route's description says how much it takes.
    """

    code = "body-too-large"
    status = 413


class UriTooLong(GatewayError):
    """The request's address is too long.

    The path and query together may have 8 KiB.
    """

    code = "uri-too-long"
    status = 414


class MediaTypeNotSupported(GatewayError):
    """The body isn't of a type that is taken here.

    Send JSON, with `Content-Type: application/json`. A batch may be `text/csv` or `text/plain` too. Text is in UTF-8, and not compressed.
    """

    code = "media-type-not-supported"
    status = 415


class IdempotencyMismatch(GatewayError):
    """The key was used for another request.

    Within 24 hours an `Idempotency-Key` stands for one request: its method, path, query, body and token. This request is another one than
    the first with its key. Nothing was sent upstream. Take a new key for a new request.
    """

    code = "idempotency-mismatch"
    status = 422


class HeadersTooLarge(GatewayError):
    """The request's headers are too large.

    A request may have 100 headers and 64 KiB of them.
    """

    code = "headers-too-large"
    status = 431


class UpstreamRefused(GatewayError):
    """Flxpoint refused the call.

    The call was sent and Flxpoint answered with a client error, which is passed on with its status. What it said stands, cut at 2 KiB,
    in `upstream_body`.
    """

    code = "upstream-4xx"

    def __init__(self, detail: str, *, status: int, retry_after: float | None = None, upstream_body: str = "") -> None:
        super().__init__(detail, retry_after=retry_after, upstream_body=upstream_body)
        self.code = f"upstream-{status}"
        self._upstream_status = status

    @property
    def http_status(self) -> int:
        """The upstream's own status."""
        return self._upstream_status


class CallerRateExceeded(GatewayError):
    """The caller makes too many requests.

    This is the gateway's own limit on a caller, of which one ticket gets a tenth, not Flxpoint's on a token; or too many credentials that
    are not valid came from one address. Wait as `Retry-After` says.
    """

    code = "caller-rate-exceeded"
    status = 429


class JobQuotaExceeded(GatewayError):
    """The caller has too many jobs.

    So many jobs of a caller may be open, and so many IDs may wait in them. Nothing was taken in. Wait until some have finished, or cancel
    some (`DELETE /gateway/jobs/<id>`), and ask again. `open_jobs` and `waiting_ids` say what there is, `most_jobs` and `most_ids` what
    there may be.
    """

    code = "job-quota-exceeded"
    status = 429


class InternalError(GatewayError):
    """The gateway failed.

    A defect of the gateway's own. The log holds the trace under the request ID.
    """

    code = "internal-error"
    status = 500


class BadGateway(GatewayError):
    """The upstream didn't give a usable answer."""

    status = 502


class UpstreamRejectedToken(BadGateway):
    """Flxpoint rejected the token.

    Flxpoint answered 401 or 403 to the token that the gateway holds. The caller's credential is fine; an operator must look at the token:
    withdrawn, mistyped, or of the wrong kind.
    """

    code = "upstream-rejected-token"


class UpstreamError(BadGateway):
    """Flxpoint failed.

    Flxpoint answered with a server error. Whether the work was done isn't known where `Gateway-Uncertain: true` stands.
    """

    code = "upstream-error"


class UpstreamInvalidResponse(BadGateway):
    """Flxpoint's answer can't be understood.

    The answer was not what the operation promises, or was larger than the catalogue allows. The work may be done.
    """

    code = "upstream-invalid-response"


class UpstreamUnreachable(BadGateway):
    """Flxpoint can't be reached.

    No connection could be made, or it broke before an answer came. `Gateway-Uncertain: true` stands where the request had left.
    """

    code = "upstream-unreachable"


class Unavailable(GatewayError):
    """The gateway can't take the call now."""

    status = 503


class QueueFull(Unavailable):
    """Too many calls wait for this token.

    The token's queue, or the caller's part of it, is at its bound. Nothing was sent upstream.
    """

    code = "queue-full"


class WaitTooLong(Unavailable):
    """The wait would be too long.

    The wait computed on arrival is longer than the caller is willing to wait (`Prefer: wait=<seconds>`, 30 by default). Nothing was sent
    upstream. `predicted_wait` is in seconds, rounded up.
    """

    code = "wait-too-long"


class TokenSuspended(Unavailable):
    """The token is suspended for this operation.

    Flxpoint answered 401 or 403 to it three times in a row, so nothing more is sent but one call now and then that finds out whether that
    has changed. Most often the token is of the wrong kind, or was withdrawn. A new value (`token rotate`) or `token resume` ends it at
    once.
    """

    code = "token-suspended"


class TokenUnavailable(Unavailable):
    """The token can't be used now.

    An operator disabled or removed the Flxpoint token. Or the caller came with a JWT, and the identity provider's keys, which would verify
    it, were not to be had yet. Nothing was sent upstream.
    """

    code = "token-unavailable"


class AuditUnavailable(Unavailable):
    """The call can't be put on record.

    What can't be audited is not sent. Nothing was sent upstream. The same is said where jobs, keys or records can't be read or written
    now: ask again in a moment.
    """

    code = "audit-unavailable"


class PacingUnavailable(Unavailable):
    """The gateway can't find out whose turn it is.

    Several replicas agree on turns in a store that this one hasn't reached for 2 s. Nothing was sent upstream: an unpaced call could break
    Flxpoint's limit. Another replica may take the call, or this one once the store is back.
    """

    code = "pacing-unavailable"


class ShuttingDown(Unavailable):
    """The gateway is shutting down.

    Nothing was sent upstream. Another replica, or the same one in a moment, will take the call.
    """

    code = "shutting-down"


class TooManyFollowers(Unavailable):
    """Too many follow jobs.

    As many connections follow jobs by events as the gateway takes at a time. The jobs go on. Ask for the job itself now and then
    (`GET /gateway/jobs/<id>`), or follow it again later.
    """

    code = "too-many-followers"


class TimedOut(GatewayError):
    """Time ran out."""

    status = 504


class DeadlineExceeded(TimedOut):
    """The caller's wait ran out.

    The call was still waiting for its turn (then nothing was sent), or was under way (then `Gateway-Uncertain: true` stands, the send is
    awaited all the same, and its result goes on record).
    """

    code = "deadline-exceeded"


class UpstreamTimeout(TimedOut):
    """Flxpoint didn't answer in time.

    The request had left. Whether the work was done isn't known.
    """

    code = "upstream-timeout"


class StartRefused(Exception):
    """The process can't start as it was told to; its message is the one line to show."""


def _concrete(parent: type[GatewayError]) -> list[type[GatewayError]]:
    own = [parent] if "code" in vars(parent) and parent.code else []
    return own + [found for child in parent.__subclasses__() for found in _concrete(child)]


PROBLEMS: dict[str, type[GatewayError]] = {kind.code: kind for kind in _concrete(GatewayError)}
"""Every problem by its code; `upstream-4xx` stands for all codes `upstream-<status>`."""
