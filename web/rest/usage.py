"""What keys have used, and what it cost."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from gateway.jobs.ledger import total
from schemas.envelope import enveloped
from schemas.usage import UsageQuery, UsageQuerySchema, UsageReportSchema
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("usage", __name__, url_prefix="/usage", description="Tokens and cost")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.arguments(UsageQuerySchema, location="query")
@blueprint.response(200, enveloped(UsageReportSchema))
def usage(query: UsageQuery) -> Response:
    """Jobs that have ended, by key and model, in whole hours (UTC) of when they were made.

    The own key; an admin sees all keys, or the one that it names.
    """
    credentials = gateway().credentials
    if query.key_id not in (None, caller().id):
        caller().require("admin")
    if query.key_id is not None:
        key_ids = [credentials.get(query.key_id).id]
    elif "admin" in caller().scopes:
        key_ids = [record.id for record in credentials.list()]
    else:
        key_ids = [caller().id]
    rows = gateway().store.ledger.report(key_ids, start=query.start, end=query.end, model=query.model)
    data = {
        "from": query.start.isoformat(timespec="seconds"),
        "to": query.end.isoformat(timespec="seconds"),
        "usage": [row.to_public() for row in rows],
        "total": total(rows),
    }
    return success(data)
