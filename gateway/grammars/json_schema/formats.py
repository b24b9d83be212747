"""The formats of JSON Schema as regular languages: never more than a validator takes, often less."""

from __future__ import annotations

from gateway.grammars.patterns import matching
from gateway.grammars.regex import Regex

_DATE = (
    "[12][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])"
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,28}[a-zA-Z0-9])?"
_HOST = f"{_LABEL}(?:\\.{_LABEL}){{0,3}}\\.[a-zA-Z]{{2,12}}"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = f"{_OCTET}(?:\\.{_OCTET}){{3}}"
_SEGMENT = "[a-zA-Z0-9._~-]{1,64}"
_PATH = f"(?:/{_SEGMENT}){{0,16}}/?(?:\\?[a-zA-Z0-9._~=&-]{{1,128}})?(?:#[a-zA-Z0-9._~-]{{1,64}})?"
_URI = f"https?://{_HOST}(?::[1-9][0-9]{{0,3}})?{_PATH}"
_EMAIL = f"[a-zA-Z0-9_+-]{{1,30}}(?:\\.[a-zA-Z0-9_+-]{{1,15}}){{0,3}}@{_HOST}"
_TIMES = "(?:[0-9]{1,3}H(?:[0-9]{1,3}M)?(?:[0-9]{1,3}S)?|[0-9]{1,3}M(?:[0-9]{1,3}S)?|[0-9]{1,3}S)"
_DAYS = "(?:[0-9]{1,3}Y(?:[0-9]{1,2}M)?(?:[0-9]{1,3}D)?|[0-9]{1,2}M(?:[0-9]{1,3}D)?|[0-9]{1,3}D)"

FORMATS: dict[str, Regex] = {
    name: matching(pattern, whole=True)
    for name, pattern in {
        "date": _DATE,
        "time": _CLOCK,
        "date-time": f"{_DATE}T{_CLOCK}",
        "duration": f"P(?:{_DAYS}(?:T{_TIMES})?|T{_TIMES}|[0-9]{{1,3}}W)",
        "email": _EMAIL,
        "idn-email": _EMAIL,
        "hostname": _HOST,
        "idn-hostname": "[a-z0-9]{1,30}(?:\\.[a-z0-9]{1,30}){0,3}\\.[a-z]{2,12}",
        "ipv4": _IPV4,
        "ipv6": "[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){7}",
        "uri": _URI,
        "uri-reference": f"(?:{_URI}|(?:/{_SEGMENT}){{1,16}})",
        "iri": _URI,
        "iri-reference": f"(?:{_URI}|(?:/{_SEGMENT}){{1,16}})",
        "uri-template": _URI,
        "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "json-pointer": "(?:/[a-zA-Z0-9_ .-]{0,64}){0,16}",
        "relative-json-pointer": "[0-9](?:/[a-zA-Z0-9_ .-]{1,64}){0,16}",
    }.items()
}
#: Formats of JSON Schema that no grammar of ours has; others are annotations.
UNKNOWN_TO_ALL = frozenset({"regex"})
