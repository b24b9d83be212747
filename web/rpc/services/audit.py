"""Who has changed keys, models and deployments. For admins."""

from __future__ import annotations

from schemas.cluster.audit import AuditQuerySchema
from web.rpc.call import Call
from web.rpc.messages import build, to_dict
from web.rpc.stubs import model_pb2 as pb


def list_audit(call: Call, request: pb.ListAuditRequest) -> pb.ListAuditResponse:
    """Changes, newest first, a page at a time."""
    call.key.require("admin")
    page = call.gateway.audit.page(**AuditQuerySchema().load(to_dict(request)))
    return build(pb.ListAuditResponse, {"entries": page.entries, "next_cursor": page.cursor})
