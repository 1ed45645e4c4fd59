"""What the last checkpoint of a chain fixes."""

from __future__ import annotations

from app.audit.chain import Broken, Head
from app.audit.seals import KeyUnknown, SignatureWrong, Trusted
from app.audit.storing import Execute

__all__ = ["sealed_head"]


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
    try:
        members = trusted.check(body, signature)
    except (KeyUnknown, SignatureWrong) as error:
        raise Broken(seq, "has a checkpoint that the gateway didn't sign") from error
    if (members["kind"], members["chain"], members["seq"]) != ("checkpoint", chain, seq):
        raise Broken(seq, "has a checkpoint that is another's")
    return Head(chain, seq, bytes.fromhex(str(members["hash"])))
