"""What seals fix: the heads that checkpoints and tombstones name, once their signatures are checked."""

from __future__ import annotations

from app.audit.chain import Broken, Head
from app.audit.seals import KeyUnknown, SignatureWrong, Trusted
from app.audit.storing import Execute

__all__ = ["head_of_seal", "sealed_head"]


def sealed_head(execute: Execute, chain: str, trusted: Trusted) -> Head:
    """What the last checkpoint of a chain fixes; its beginning where there is none.

    Raises:
        Broken: the checkpoint isn't what the gateway signed.
    """
    query = "SELECT seq, CAST(body AS BLOB), CAST(signature AS BLOB) FROM audit_checkpoints WHERE chain = ? ORDER BY seq DESC LIMIT 1"
    found = execute(query, (chain,)).fetchone()
    if found is None:
        return Head(chain)
    seq, body, signature = found
    head, _ = head_of_seal(trusted, "checkpoint", body, signature)
    if (head.chain, head.seq) != (chain, seq):
        message = f"record {seq} has a checkpoint that is another's"
        raise Broken(message)
    return head


def head_of_seal(trusted: Trusted, kind: str, body: bytes, signature: bytes) -> tuple[Head, int]:
    """The head that a seal names, and the `seq` of the checkpoint before it, where it is one.

    Raises:
        Broken: it isn't a seal of that kind which the gateway signed.
    """
    try:
        members = trusted.check(body, signature)
    except (KeyUnknown, SignatureWrong) as error:
        message = f"a {kind} isn't what the gateway signed"
        raise Broken(message) from error
    if members["kind"] != kind:
        message = f"a {members['kind']} stands where a {kind} should"
        raise Broken(message)
    head = Head(str(members["chain"]), int(str(members["seq"])), bytes.fromhex(str(members["hash"])))
    return head, int(str(members.get("previous", 0)))
