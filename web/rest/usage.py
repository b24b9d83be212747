"""What keys have used, and what it cost."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from gateway.views.usage import usage as report
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
    return success(report(gateway().store.ledger, gateway().credentials, query, key=caller()))
