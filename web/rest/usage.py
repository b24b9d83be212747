"""What keys have used, and what it cost."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from gateway.views.usage import usage as report
from gateway.views.usage import usage_csv
from schemas.envelope import enveloped
from schemas.usage import UsageQuery, UsageReportQuerySchema, UsageReportSchema
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("usage", __name__, url_prefix="/usage", description="Tokens and cost")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.arguments(UsageReportQuerySchema, location="query")
@blueprint.response(200, enveloped(UsageReportSchema))
def usage(query: UsageQuery) -> Response:
    """Jobs that have ended, by key and model, in whole hours (UTC) of when they were made.

    The own key; an admin sees all keys, or the one that it names. As `csv` it has the rows only, with the exact cost;
    an apostrophe stands before a name that a spreadsheet would take for a formula.
    """
    if query.format == "csv":
        text = usage_csv(gateway().store.ledger, gateway().credentials, query, key=caller())
        return Response(text, mimetype="text/csv", headers={"Content-Disposition": 'attachment; filename="usage.csv"'})
    return success(report(gateway().store.ledger, gateway().credentials, query, key=caller()))
