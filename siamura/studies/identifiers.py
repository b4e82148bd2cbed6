"""Identifiers of people, replaced by salted hashes."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def namer(salt: str | None) -> Callable[[str], str]:
    """Give the function that replaces an identifier by its salted hash."""
    if salt is not None and len(salt) < 8:
        raise ValueError(
            f"salt has {len(salt)} characters: give a secret of 8 or more, or leave it to siamura."
        )
    key = _kept_salt() if salt is None else salt.encode()
    return lambda identifier: hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:16]


def _kept_salt() -> bytes:
    """Read this user's salt; make it where there is none yet."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "siamura"
    file = folder / "salt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written beside and linked: of two processes that start at once, both go on with the same salt.
        draft = folder / f".salt-{secrets.token_hex(8)}"
        if not file.exists():
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as handle:
                handle.write(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):
                os.link(draft, file)
            draft.unlink()
        kept = file.read_bytes().strip()
    except OSError as error:
        raise ValueError(
            f"the salt for hashing identifiers cannot be kept in {file} ({error.strerror}): pass salt='a "
            "secret of yours'."
        ) from error
    if len(kept) < 16:
        raise ValueError(
            f"the salt in {file} is too short to keep a secret: remove the file to get a new one."
        )
    return kept
