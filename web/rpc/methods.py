"""Which function answers which method: one line each."""

from __future__ import annotations

from web.rpc.handlers import Behaviour
from web.rpc.services import audit, deployments, inference, jobs, join_tokens, keys, models, nodes
from web.rpc.stubs import model_pb2 as pb

MODEL_SERVICE = pb.DESCRIPTOR.services_by_name["ModelService"]
NODE_SERVICE = pb.DESCRIPTOR.services_by_name["NodeService"]
KEY_SERVICE = pb.DESCRIPTOR.services_by_name["KeyService"]
JOB_SERVICE = pb.DESCRIPTOR.services_by_name["JobService"]

MODEL_METHODS: dict[str, Behaviour] = {
    "ListModels": models.list_models,
    "GetModel": models.get_model,
    "AddModel": models.add_model,
    "ChangeModel": models.change_model,
    "RemoveModel": models.remove_model,
    "CreateCompletion": inference.create_completion,
    "CreateCompletionStream": inference.create_completion_stream,
    "CreateChatCompletion": inference.create_chat_completion,
    "CreateChatCompletionStream": inference.create_chat_completion_stream,
    "CreateEmbeddings": inference.create_embeddings,
    "ListLocalModels": models.list_local_models,
    "DeployLocalModel": deployments.deploy_local_model,
    "GetDeploymentStatus": deployments.get_deployment_status,
    "UnloadLocalModel": deployments.unload_local_model,
    "WatchDeployment": deployments.watch_deployment,
    "ListDeployments": deployments.list_deployments,
    "CancelDeployment": deployments.cancel_deployment,
    "ScaleLocalModel": deployments.scale_local_model,
}

JOB_METHODS: dict[str, Behaviour] = {
    "CreateJob": jobs.create_job,
    "GetJob": jobs.get_job,
    "ListJobs": jobs.list_jobs,
    "WatchJob": jobs.watch_job,
    "CancelJob": jobs.cancel_job,
    "GetQueue": jobs.get_queue,
    "GetHistory": jobs.get_history,
}

NODE_METHODS: dict[str, Behaviour] = {
    "ListNodes": nodes.list_nodes,
    "GetNode": nodes.get_node,
    "UpdateNode": nodes.update_node,
    "ForgetNode": nodes.forget_node,
    "DrainNode": nodes.drain_node,
    "CordonNode": nodes.cordon_node,
    "UncordonNode": nodes.uncordon_node,
    "ListJoinTokens": join_tokens.list_join_tokens,
    "CreateJoinToken": join_tokens.create_join_token,
    "RevokeJoinToken": join_tokens.revoke_join_token,
}

KEY_METHODS: dict[str, Behaviour] = {
    "ListKeys": keys.list_keys,
    "GetKey": keys.get_key,
    "CreateKey": keys.create_key,
    "UpdateKey": keys.update_key,
    "RotateKey": keys.rotate_key,
    "RevokeKey": keys.revoke_key,
    "GetUsage": keys.get_usage,
    "ListAudit": audit.list_audit,
}
#: Every service, and what answers its methods.
SERVICES = (
    (MODEL_SERVICE, MODEL_METHODS),
    (NODE_SERVICE, NODE_METHODS),
    (KEY_SERVICE, KEY_METHODS),
    (JOB_SERVICE, JOB_METHODS),
)
