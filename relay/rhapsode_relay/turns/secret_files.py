"""The secrets that headers of sinks and context sources need: a folder for each Secret, a file for each key.

Read at every call, so that a new secret counts from the next call on. Called by `fetching` and `writing`.
"""

from pathlib import Path

from rhapsode_contract.outcomes import SecretHeader

MAX_SECRET_BYTES = 16 * 1024


class NoSecret(Exception):
    """A secret cannot be used; the message names it, and never says what it is."""


def header_of(folder: Path | None, wanted: SecretHeader | None) -> dict[str, str]:
    """Return a header with its secret; none if none is wanted. Raises NoSecret."""
    if wanted is None:
        return {}
    named = f"secret {wanted.secret_ref.name}/{wanted.secret_ref.key}"
    if folder is None:
        raise NoSecret(f"{named} is needed, and no folder of secrets is set")
    secret = _read(folder / wanted.secret_ref.name / wanted.secret_ref.key, named)
    return {wanted.header: wanted.prefix + secret}


def _read(path: Path, named: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as exc:
        raise NoSecret(f"{named} cannot be read: {exc.strerror or type(exc).__name__}") from None
    try:
        secret = data.decode().strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret or len(data) > MAX_SECRET_BYTES or not (secret.isascii() and secret.isprintable()):
        raise NoSecret(f"{named} is no header's value: one line of printable ASCII is")
    return secret
