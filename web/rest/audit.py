"""Who has changed keys, models and deployments. For admins."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_smorest import Blueprint

from schemas.cluster.audit import AuditQuerySchema, AuditSchema
from schemas.envelope import enveloped
from web.http.auth import authenticate, require_admin
from web.http.body_parser import StrictParser
from web.http.envelope import gateway, success

blueprint = Blueprint("audit", __name__, url_prefix="/audit", description="Who has changed what (scope admin)")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)
blueprint.before_request(require_admin)


@blueprint.route("")
@blueprint.arguments(AuditQuerySchema, location="query")
@blueprint.response(200, enveloped(AuditSchema))
def audit(query: dict[str, Any]) -> Response:
    """Changes of keys, models and deployments, newest first, a page at a time. The newest 10,000 are kept."""
    page = gateway().audit.page(**query)
    return success({"entries": page.entries, "next_cursor": page.cursor})
