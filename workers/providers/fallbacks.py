"""The models that may take over a job of a remote model, and which of them can continue its answer."""

from __future__ import annotations

import logging

from gateway.errors import HeadraceError
from gateway.grammars.checks import Checks
from gateway.inference.parameters import with_defaults
from gateway.inference.routing import Router
from gateway.models.catalog import Catalog
from gateway.models.entry import Model
from workers.providers.continuation import fits
from workers.providers.provider_calls import Calls
from workers.providers.run import ProviderRun

log = logging.getLogger(__name__)


class Fallbacks:
    """Uses the catalog, the models' statuses, and the abilities of each protocol."""

    def __init__(self, catalog: Catalog, router: Router, calls: Calls) -> None:
        self._catalog = catalog
        self._router = router
        self._calls = calls
        self._forms = Checks()

    def asked(self, run: ProviderRun) -> Model:
        """The model that the client asked for: its entry has the fallbacks, and `on_interrupt`."""
        return next((model for model in self._catalog if model.id == run.job.model), run.model)

    def of(self, run: ProviderRun) -> list[Model]:
        """The fallbacks that have not tried yet, support the request, and can be asked now."""
        tried = {run.model.id, *run.transcript.tried}
        others = self._router.ready_fallbacks(self.asked(run), run.job.kind)
        return [other for other in others if other.id not in tried and self._can_do(run, other)]

    def continues(self, run: ProviderRun, model: Model) -> bool:
        """Whether a model can continue the text of this job."""
        if not fits(run.transcript, model):
            return False
        return model.local or self._calls.upstream(self._catalog.providers[model.provider]).continues(run.job.kind)

    def _can_do(self, run: ProviderRun, other: Model) -> bool:
        try:
            with_defaults(other, run.job.request)
            if other.local:
                self._forms.require(run.job.request, asker=run.job.key_id)
            else:
                self._calls.upstream(self._catalog.providers[other.provider])
            return True
        except HeadraceError as error:
            log.info("job %s: %s can't take over: %s", run.id, other.id, error.message)
            run.skipped[other.id] = error.message
            return False
