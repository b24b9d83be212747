"""The secrets of API keys: random, shown once, stored as SHA-256 (so no slow hash is needed), or given and strong."""

from __future__ import annotations

import hashlib
import secrets

from gateway.errors import InvalidSetting

#: Characters of a secret that are shown, at most a third of it.
PREFIX_LENGTH = 7
#: Of a secret that somebody has given: least characters, and how many must differ.
MIN_LENGTH, MIN_DIFFERENT = 20, 10


def new_secret() -> str:
    """Of 256 bits."""
    return f"hr-{secrets.token_urlsafe(32)}"


def digest_of(secret: str) -> str:
    """By which it is found."""
    return hashlib.sha256(secret.encode()).hexdigest()


def prefix_of(secret: str) -> str:
    """How it begins, as far as that may be shown."""
    return secret[: min(PREFIX_LENGTH, len(secret) // 3)]


def require_strong(secret: str) -> None:
    """For the first admin key, which may be given. Empty: there is none. Raises: InvalidSetting, without the secret."""
    printable = secret.isascii() and secret.isprintable() and " " not in secret
    if not secret or (printable and len(secret) >= MIN_LENGTH and len(set(secret)) >= MIN_DIFFERENT):
        return
    flaw = f"it has {len(secret)} characters, {len(set(secret))} different ones" if printable else "it has others"
    raise InvalidSetting(
        f"HEADRACE_BOOTSTRAP_KEY is too easy to guess, or can't be sent: {flaw}. It must have at least {MIN_LENGTH} "
        f"printable ASCII characters without spaces, {MIN_DIFFERENT} of them different. Make one: openssl rand -hex 32"
    )
