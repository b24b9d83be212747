"""How a machine joins: the token that an admin gives it, what it asks for, and what it is given."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from marshmallow import Schema, fields, post_load, validate

from schemas.base.fields import Integer, StrictSchema, Text

#: `hrj-SECRET-FINGERPRINT`, both in hex: 20 bytes, and the SHA-256 of the CA's certificate.
TOKEN = re.compile(r"hrj-([0-9a-f]{40})-([0-9a-f]{64})")
TOKEN_STATUSES = ("active", "expired", "used", "revoked")
#: Longest life of a token, in seconds, and most machines that one lets in.
MAX_TTL_S, MAX_USES = 30 * 86_400, 10_000
TTL_S = 86_400
#: A machine's name.
NODE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


class TokenParts(NamedTuple):
    """What a token says."""

    secret: str
    #: Of the CA that the gateway's certificate must be of.
    ca_fingerprint: str

    @classmethod
    def parse(cls, text: str) -> TokenParts | None:
        """None if it is no token."""
        found = TOKEN.fullmatch(text.strip())
        return cls(*found.groups()) if found else None

    def __str__(self) -> str:
        return f"hrj-{self.secret}-{self.ca_fingerprint}"


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """A token to be made. `uses` 0: any number of machines."""

    ttl_s: int
    uses: int


class TokenRequestSchema(StrictSchema):
    """Body of a new token."""

    ttl_s = Integer(60, MAX_TTL_S, load_default=TTL_S, metadata={"description": "Seconds for which it is valid"})
    uses = Integer(0, MAX_USES, load_default=1, metadata={"description": "Machines that it lets in; 0: any number"})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> TokenRequest:
        ttl_s, uses = data["ttl_s"], data["uses"]
        return TokenRequest(ttl_s=TTL_S if ttl_s is None else ttl_s, uses=1 if uses is None else uses)


class TokenSchema(Schema):
    """A token without its secret."""

    id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(TOKEN_STATUSES))
    created_at = fields.String(required=True)
    expires_at = fields.String(required=True)
    uses = fields.Integer(required=True, metadata={"description": "Machines that it lets in; 0: any number"})
    nodes = fields.List(fields.String(), required=True, metadata={"description": "Those that have joined with it"})


class NewTokenSchema(TokenSchema):
    """A new token."""

    token = fields.String(required=True, metadata={"description": "It is in this answer only"})
    url = fields.String(required=True, metadata={"description": "Where to join with it"})


class TokenListSchema(Schema):
    """Tokens, newest first; ended ones for a day."""

    tokens = fields.List(fields.Nested(TokenSchema), required=True)


@dataclass(frozen=True)
class JoinRequest:
    """What a machine sends. `token` is empty if it comes with its certificate."""

    node: str
    version: str
    #: A certificate request, as PEM, for the key that it keeps.
    request: str
    token: str = ""


class JoinRequestSchema(StrictSchema):
    """Checks it."""

    node = Text(required=True, validate=validate.Regexp(rf"^{NODE_NAME}$"))
    version = Text(required=True, validate=validate.Length(0, 100))
    request = Text(required=True, validate=validate.Length(1, 10_000))
    token = Text(load_default="", validate=validate.Length(0, 200))

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> JoinRequest:
        return JoinRequest(**data)


@dataclass(frozen=True)
class JoinAnswer:
    """What it is given."""

    node: str
    #: A client's certificate for its key, as PEM.
    certificate: str
    #: Where Redis is; empty: it is reached through the listener.
    redis_url: str = ""
    #: Over the listener: what stands in the URL besides its address.
    username: str = ""
    password: str = ""
    db: int = 0
    #: Files that options of `redis_url` name, such as `ssl_ca_certs`.
    redis_files: dict[str, str] = field(default_factory=dict)
    #: Settings that all machines must have alike, by their names.
    settings: dict[str, str] = field(default_factory=dict)
