"""Which word a model's status is, and who serves a request: from what heartbeats, wishes and circuits say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import redis

from gateway.cluster.desired import ReplicaSpec, SpecState
from gateway.cluster.known_footprints import Footprints
from gateway.cluster.registry import Device, ProviderWorker, Registry, Replica
from gateway.errors import DoesNotFit, HeadraceError, ModelNotReady, UpstreamUnavailable
from gateway.inference.breaker import Breaker, Call
from gateway.inference.routing import Router
from gateway.models.catalog import Catalog, Model, load_catalog
from gateway.models.footprint import Footprint
from gateway.scheduling.capacity import Capacity
from gateway.settings import Settings
from gateway.store.codec import dumps
from gateway.store.scripts import Scripts

FAILED = Call("upstream_error", 0.1)
PROVIDERS = {"p": {"protocol": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "ROUTER_KEY"}}
MODELS = {
    "here": {"capabilities": ["chat"], "engine": "fake", "fallbacks": ["there", "other"]},
    "other": {"capabilities": ["chat", "embedding"], "engine": "fake"},
    "words": {"capabilities": ["chat"], "engine": "openvino", "source": "/nowhere"},
    "there": {"capabilities": ["chat"], "provider": "p", "fallbacks": ["vectors", "other"]},
    "vectors": {"capabilities": ["embedding"], "engine": "fake", "fallbacks": ["other"]},
}


@pytest.fixture
def router(redis_client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Router:
    monkeypatch.delenv("ROUTER_KEY", raising=False)
    given = replace(
        settings,
        models_json=dumps(MODELS),
        providers_json=dumps(PROVIDERS),
        breaker_failures=1,
        breaker_open_s=60.0,
    )
    catalog: Catalog = load_catalog(given)
    return Router(registry=Registry(redis_client), catalog=catalog, breaker=Breaker(Scripts(redis_client), given))


def alive(router: Router, model: str, *statuses: str) -> None:
    for number, status in enumerate(statuses):
        name = f"{model}:{number}"
        router.registry.heartbeat(Replica(name, name, model, "n1", "cpu0", status, pid=1), lease_s=60)


def wanted(router: Router, model: str, *states: str) -> None:
    for number, state in enumerate(states):
        router.desired.put(ReplicaSpec(f"{model}.{number}", model, "n1", "cpu0", state=state))


def status(router: Router, model: str) -> str:
    return router.status(router.catalog.get(model))


@pytest.mark.parametrize(
    ("replicas", "wishes", "word"),
    [
        ([], [], "inactive"),
        (["loading"], [SpecState.RUNNING], "loading"),
        ([], [SpecState.RUNNING], "loading"),  # nobody has begun with it yet, or it has just died
        (["active"], [SpecState.RUNNING], "active"),
        (["loading", "active", "unloading"], [SpecState.RUNNING, SpecState.FAILED], "active"),
        ([], [SpecState.ASLEEP], "asleep"),
        (["failed"], [SpecState.FAILED], "failed"),
        ([], [SpecState.FAILED, SpecState.ASLEEP], "asleep"),
        (["unloading"], [], "unloading"),
        (["unloading"], [SpecState.ASLEEP], "asleep"),
    ],
)
def test_a_local_model_has_the_best_word_that_holds_for_one_of_its_replicas(
    router: Router, replicas: Sequence[str], wishes: Sequence[str], word: str
) -> None:
    alive(router, "here", *replicas)
    wanted(router, "here", *wishes)
    alive(router, "other", "active")
    wanted(router, "other", SpecState.RUNNING)
    assert status(router, "here") == word
    assert router.serves(router.catalog.get("here")) is (word in ("active", "loading", "asleep"))


def test_weights_count_wherever_an_agent_has_them(router: Router) -> None:
    assert status(router, "words") == "no_weights"
    device = Device("agent:1", "n2", "cpu0", pid=1)
    router.registry.beat_device(device, lease_s=60)
    Footprints(router.registry.redis).publish("n2", "cpu0", {"words": Footprint()})
    fresh = Router(registry=router.registry, catalog=router.catalog, breaker=router.breaker)
    assert status(fresh, "words") == "inactive"


def test_it_sleeps_only_if_none_of_its_replicas_is_awake(router: Router) -> None:
    wanted(router, "here", SpecState.ASLEEP)
    wanted(router, "other", SpecState.ASLEEP, SpecState.RUNNING)
    assert [router.asleep(name) for name in ("here", "other", "vectors")] == [True, False, False]


@pytest.mark.parametrize(
    ("credentials", "failures", "word"),
    [(None, 0, "no_credentials"), ((), 0, "no_credentials"), (("p",), 0, "active"), (("p",), 1, "unavailable")],
)
def test_a_remote_model_is_as_its_provider_and_its_workers_are(
    router: Router, credentials: tuple[str, ...] | None, failures: int, word: str
) -> None:
    if credentials is not None:
        router.registry.beat_provider(ProviderWorker("w", "n1", 1, credentials=credentials), lease_s=60)
    for _ in range(failures):
        router.breaker.failure("p", FAILED)
    assert status(router, "there") == word
    assert router.serves(router.catalog.get("there")) is (word == "active")


def test_a_key_without_a_worker_is_no_way(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_KEY", "k")
    assert status(router, "there") == "inactive"
    with pytest.raises(ModelNotReady, match=r"Start one with 'python -m workers.providers'"):
        router._require_ready(router.catalog.get("there"))


def test_the_first_fallback_that_can_takes_a_request_that_its_model_can_not(router: Router) -> None:
    here, other = router.catalog.get("here"), router.catalog.get("other")
    assert [model.id for model in router.fallbacks(here, "chat")] == ["there", "other"]
    alive(router, "other", "active")
    assert router.route(here, "chat") is other
    assert router.route(other, "chat") is other


def test_a_fallback_that_can_not_do_what_is_asked_is_passed_over_with_the_reason(router: Router) -> None:
    here, other = router.catalog.get("here"), router.catalog.get("other")
    router.registry.beat_provider(ProviderWorker("w", "n1", 1, credentials=("p",)), lease_s=60)
    alive(router, "other", "active")
    assert router.route(here, "chat") is router.catalog.get("there")
    assert router.route(here, "chat", lambda model: "" if model.local else "It has no seed.") is other
    with pytest.raises(ModelNotReady, match=r"Its fallback other can't do what is asked: No images\."):
        router.route(here, "chat", lambda model: "No images.")


def test_a_fallback_has_the_capability_that_is_asked_for(router: Router) -> None:
    assert [model.id for model in router.fallbacks(router.catalog.get("there"), "chat")] == ["other"]


def test_vectors_of_another_model_are_no_answer(router: Router) -> None:
    alive(router, "other", "active")
    with pytest.raises(ModelNotReady, match="no replica is alive"):
        router.route(router.catalog.get("vectors"), "embedding")


def test_who_has_no_fallback_left_is_told_what_to_do(router: Router) -> None:
    with pytest.raises(ModelNotReady, match="Set the variable ROUTER_KEY") as missing:
        router.route(router.catalog.get("there"), "chat")
    assert missing.value.reason == "no_credentials"
    wanted(router, "vectors", SpecState.FAILED)
    with pytest.raises(ModelNotReady, match="failed to start"):
        Router(registry=router.registry, catalog=router.catalog, breaker=router.breaker).route(
            router.catalog.get("vectors"), "chat"
        )


def test_a_provider_that_has_failed_says_when_it_is_tried_again(router: Router) -> None:
    router.registry.beat_provider(ProviderWorker("w", "n1", 1, credentials=("p",)), lease_s=60)
    router.breaker.failure("p", FAILED)
    with pytest.raises(UpstreamUnavailable, match=r"is tried again in [1-6][0-9] s") as caught:
        router.route(router.catalog.get("there"), "chat")
    assert 1 < caught.value.retry_after_s <= 60


def test_the_capacity_of_a_model_is_what_its_active_replicas_have_measured(router: Router) -> None:
    """One that loads has no slots yet; an older one does not measure what jobs get."""
    each = {"max_batch_size": 8, "pid": 1}
    for replica in (
        Replica("a", "a", "here", "n", "cpu0", "active", held=4, background_held=2, gets=7, background_gets=1.5,
                slot_s=2, background_slot_s=6, **each),
        Replica("b", "b", "here", "n", "cpu1", "active", held=8, slot_s=4, **each),
        Replica("c", "c", "here", "n", "cpu2", "loading", **each),
    ):  # fmt: skip
        router.registry.heartbeat(replica, lease_s=60)
    assert router.capacity("here", background=False) == Capacity(slots=15, free=4, slot_s=3)
    assert router.capacity("here", background=True) == Capacity(slots=9.5, free=2, slot_s=6)
    assert router.capacity("other", background=False) == Capacity(slots=0, free=0, slot_s=0)


class Shelf:
    """A loader of these models, which loads none."""

    def __init__(self, *models: str) -> None:
        self.models = models

    def obstacle(self, model: Model) -> HeadraceError | None:
        return None if model.id in self.models else DoesNotFit(f"{model.id} is too large.")

    def require(self, model: Model, besides: str = "") -> None:
        if error := self.obstacle(model):
            raise type(error)(error.message + besides)

    def load(self, model: Model, *, asked_by: str) -> None:
        raise NotImplementedError


def test_a_model_that_may_be_loaded_takes_requests_rather_than_its_fallbacks(router: Router) -> None:
    router.loader = Shelf("here", "other")
    alive(router, "other", "active")
    here = router.catalog.get("here")
    assert status(router, "here") == "available"
    assert router.route(here, "chat") is here


def test_a_fallback_that_is_there_goes_before_one_that_must_be_loaded(router: Router) -> None:
    """Whatever their order is."""
    router.loader = Shelf("other")
    there, other = router.catalog.get("there"), router.catalog.get("other")
    here = router.catalog.get("here")
    assert router.route(here, "chat") is other, "nothing else answers"
    router.registry.beat_provider(ProviderWorker("w", "n1", 1, credentials=("p",)), lease_s=60)
    fresh = Router(registry=router.registry, catalog=router.catalog, breaker=router.breaker, loader=router.loader)
    assert fresh.ready_fallbacks(here, "chat") == [there, other]
    turned = replace(here, fallbacks=("other", "there"))
    assert fresh.ready_fallbacks(turned, "chat") == [there, other]


def test_why_a_model_can_not_be_loaded_is_told(router: Router) -> None:
    router.loader = Shelf()
    with pytest.raises(DoesNotFit, match="vectors is too large"):
        router.route(router.catalog.get("vectors"), "embedding")
