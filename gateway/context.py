"""Builds the domain layer once per process and passes it on; there are no module-level connections."""

from __future__ import annotations

from dataclasses import dataclass

import redis
from celery import Celery

from gateway.access.api_keys import Credentials
from gateway.access.audit import AuditLog
from gateway.access.join_tokens import JoinTokens
from gateway.access.key_editor import KeyEditor
from gateway.access.sessions import Sessions
from gateway.cluster.nodes import Nodes
from gateway.cluster.registry import Registry
from gateway.deployments.catalog_editor import CatalogEditor
from gateway.deployments.draining import Draining
from gateway.deployments.load_progress import LoadProgress
from gateway.deployments.on_demand import on_demand
from gateway.deployments.service import Deployments
from gateway.inference.breaker import Breaker
from gateway.inference.routing import Router
from gateway.inference.service import Inference
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog, load_catalog
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store.connection import connect
from gateway.store.installation import Installation
from gateway.views.join_tokens import JoinTokenViews
from gateway.views.models import Models
from gateway.watching.hub import Hub

#: Redis' time-out for the hub. A stream can send nothing while it waits for a hanging Redis, so this is short.
HUB_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Gateway:
    """Everything that an API face needs."""

    settings: Settings
    redis: redis.Redis
    celery: Celery
    installation: Installation
    store: JobStore
    registry: Registry
    nodes: Nodes
    join_tokens: JoinTokenViews
    catalog: Catalog
    credentials: Credentials
    sessions: Sessions
    key_editor: KeyEditor
    audit: AuditLog
    hub: Hub
    inference: Inference
    models: Models
    deployments: Deployments
    draining: Draining
    catalog_editor: CatalogEditor

    @classmethod
    def connect(cls, settings: Settings, *, face: str = "rest", joined: bool = False) -> Gateway:
        """Build everything. Nothing is sent to Redis yet. `face`: of this process, for the audit log. `joined`: see
        `gateway.store.connection.connect`.
        """
        client = connect(settings, retries=3, joined=joined)
        store, registry, catalog = JobStore(client), Registry(client), load_catalog(settings, client)
        nodes = Nodes(client)
        installation = Installation(client, settings.data_dir)
        credentials = Credentials(client, installation)
        celery = make_celery(settings)
        short = connect(settings, timeout_s=HUB_TIMEOUT_S)
        hub = Hub(short, JobStore(short), grace_s=settings.grace_s)
        audit = AuditLog(client, face)
        deployments = Deployments(
            settings=settings, store=store, registry=registry, catalog=catalog, celery=celery, audit=audit
        )
        breaker, loader = Breaker(store.scripts, settings), on_demand(deployments)
        router = Router(registry=registry, catalog=catalog, breaker=breaker, loader=loader)
        inference = Inference(
            settings=settings,
            store=store,
            router=router,
            catalog=catalog,
            celery=celery,
            hub=hub,
            loads=LoadProgress(client),
            audit=audit,
        )
        return cls(
            settings=settings,
            redis=client,
            celery=celery,
            installation=installation,
            store=store,
            registry=registry,
            nodes=nodes,
            join_tokens=JoinTokenViews(settings, JoinTokens(client, lambda: store.clock.now_ms() / 1000), audit),
            catalog=catalog,
            credentials=credentials,
            sessions=Sessions(client, credentials, audit, ttl_s=settings.session_ttl_s),
            key_editor=KeyEditor(credentials, audit),
            audit=audit,
            hub=hub,
            inference=inference,
            models=Models(inference),
            deployments=deployments,
            draining=Draining(nodes, deployments),
            catalog_editor=CatalogEditor(
                settings=settings, store=store, registry=registry, catalog=catalog, celery=celery, audit=audit
            ),
        )
