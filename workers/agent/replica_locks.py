"""The replicas of one device, by the locks that they hold here: those of other devices are not looked at."""

from __future__ import annotations

from gateway.cluster.registry import Registry, Replica
from gateway.process.locks import Holder, lock_holder, lock_path
from gateway.queue.names import slug
from gateway.settings import Settings


def locks_here(settings: Settings) -> list[str]:
    """Names of locks, held or free, that replicas of this device may have."""
    suffix = f".{slug(settings.node)}.{slug(settings.device)}"
    names = (path.stem for path in lock_path(settings.data_dir, "").parent.glob("*.lock"))
    return [name for name in names if suffix in name and not name.startswith("agent.")]


def holders_here(settings: Settings) -> list[Holder]:
    """The processes that hold them."""
    return [holder for name in locks_here(settings) if (holder := lock_holder(settings.data_dir, name))]


def replicas_here(settings: Settings, registry: Registry) -> list[Replica]:
    """The living replicas of this device. Raises: NOT_NOW."""
    found = registry.replicas_among([holder.incarnation for holder in holders_here(settings)])
    return [one for one in found if (one.node, one.device) == (settings.node, settings.device)]
