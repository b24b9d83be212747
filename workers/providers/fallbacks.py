"""Who may take over a job of a remote model, and who could go on with what it has."""

from __future__ import annotations

import logging

from gateway.errors import HeadraceError
from gateway.inference.parameters import with_defaults
from gateway.inference.routing import Router
from gateway.models.catalog import Catalog
from gateway.models.entry import Model
from workers.providers.provider_calls import Calls
from workers.providers.run import ProviderRun

log = logging.getLogger(__name__)


class Fallbacks:
    """Looks at the catalog, at who is alive, and at what each protocol can say."""

    def __init__(self, catalog: Catalog, router: Router, calls: Calls) -> None:
        self._catalog = catalog
        self._router = router
        self._calls = calls

    def asked(self, run: ProviderRun) -> Model:
        """The model that the client has asked for: its entry says who takes over, and how."""
        return next((model for model in self._catalog if model.id == run.job.model), run.model)

    def of(self, run: ProviderRun) -> list[Model]:
        """Those that have not tried yet, can do what the request asks for, and can be asked now."""
        tried = {run.model.id, *run.transcript.tried}
        others = (other for other in self._router.fallbacks(self.asked(run), run.job.kind) if other.id not in tried)
        return [other for other in others if self._can_do(run, other) and self._router.serves(other)]

    def continues(self, run: ProviderRun, model: Model) -> bool:
        """Whether a model can go on from the text of this job."""
        if not run.transcript.continuable:
            return False
        return model.local or self._calls.upstream(self._catalog.providers[model.provider]).continues(run.job.kind)

    def _can_do(self, run: ProviderRun, other: Model) -> bool:
        try:
            with_defaults(other, run.job.request)
            if other.local:
                return True
            upstream = self._calls.upstream(self._catalog.providers[other.provider])
            return not upstream.refusals(run.job.kind, run.job.request)
        except HeadraceError as error:
            log.info("job %s: %s can't take over: %s", run.id, other.id, error.message)
            return False
