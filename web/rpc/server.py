"""The gRPC process: `python -m web.rpc.server`. One event loop for all calls; TLS, unless switched off on loopback."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from gateway.access.bootstrap import bootstrap_given
from gateway.access.plaintext import is_loopback
from gateway.access.renewal import LiveCertificate
from gateway.context import Gateway
from gateway.errors import InvalidSetting
from gateway.process.start import run
from gateway.settings import Settings
from gateway.tracing.spans import Tracer
from gateway.tracing.start import tracer
from web.rpc import methods, reflection
from web.rpc.handlers import handlers
from web.rpc.health import Health
from web.rpc.runtime import RpcRuntime

log = logging.getLogger(__name__)

#: Seconds that open calls may continue after SIGTERM; then they end with an error that says where to resume. After the
#: second time the rest is aborted.
DRAIN_S, CUT_S = 3.5, 5.0
#: How long a client may take to answer a keepalive ping, and how often it may send its own.
PING_TIMEOUT_S, CLIENT_PING_S = 10, 10
SERVICES = tuple(service.full_name for service, _ in methods.SERVICES)


class RpcServer:
    """A grpcio server over a connected gateway, on the running event loop."""

    def __init__(self, gateway: Gateway, tracer: Tracer | None = None) -> None:
        settings = gateway.settings
        self.gateway = gateway
        self.face = RpcRuntime(gateway, tracer)
        self.health = Health(gateway, SERVICES)
        self.server = grpc.aio.server(options=list(channel_options(settings).items()))
        self.server.add_generic_rpc_handlers(
            tuple(handlers(service, behaviours, self.face) for service, behaviours in methods.SERVICES)
        )
        add_HealthServicer_to_server(self.health, self.server)
        if settings.grpc_reflection:
            reflection.enable((*SERVICES, HEALTH), self.server)

    async def start(self) -> None:
        """Listen. Raises: InvalidSetting if the address can't be used, or plaintext would leave the machine."""
        address = grpc_address(self.gateway.settings)
        try:
            if self.gateway.settings.grpc_plaintext:
                self.server.add_insecure_port(address)
            else:
                self.server.add_secure_port(address, credentials(self.gateway.settings))
        except RuntimeError as error:
            raise InvalidSetting(
                f"gRPC can't listen on {address}: {error}. Set HEADRACE_GRPC_HOST and HEADRACE_GRPC_PORT."
            ) from error
        await asyncio.to_thread(self.gateway.hub.start)
        await self.health.check()
        await self.server.start()
        self._following = asyncio.create_task(self.health.follow())
        log.info("gRPC on %s (%s)", address, "plaintext" if self.gateway.settings.grpc_plaintext else "TLS")

    async def stop(self) -> None:
        """Take no more calls, let the open ones end, and return when all have."""
        self._following.cancel()
        calls, watchers = self.face.open_calls(), self.gateway.hub.watching()
        log.info("ending: %d calls are open, %d jobs are followed", calls, watchers)
        ended = asyncio.create_task(self.server.stop(CUT_S))
        if not (await asyncio.wait({ended}, timeout=DRAIN_S))[0]:
            self.face.close()
        await ended
        await self.face.wait_closed()


def channel_options(settings: Settings) -> dict[str, Any]:
    """grpc's own names for message size, concurrency and keepalive."""
    return {
        "grpc.max_receive_message_length": settings.max_body_bytes,
        "grpc.max_concurrent_streams": settings.grpc_max_calls,
        "grpc.keepalive_time_ms": int(settings.grpc_keepalive_s * 1000),
        "grpc.keepalive_timeout_ms": PING_TIMEOUT_S * 1000,
        # Since gRPC 1.60 this one decides, and its default is a minute: github.com/grpc/grpc/pull/34647
        "grpc.http2.ping_timeout_ms": PING_TIMEOUT_S * 1000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_ping_interval_without_data_ms": CLIENT_PING_S * 1000,
        "grpc.http2.max_pings_without_data": 0,
        "grpc.so_reuseport": 0,
    }


def grpc_address(settings: Settings) -> str:
    """Where to listen. Raises: InvalidSetting for plaintext beyond loopback."""
    host = settings.grpc_host
    if settings.grpc_plaintext and not is_loopback(host):
        raise InvalidSetting(
            f"HEADRACE_GRPC_PLAINTEXT is set, but HEADRACE_GRPC_HOST is {host!r}: without TLS gRPC listens on loopback "
            "only. Set HEADRACE_GRPC_HOST=127.0.0.1, or unset HEADRACE_GRPC_PLAINTEXT."
        )
    return f"[{host}]:{settings.grpc_port}" if ":" in host else f"{host}:{settings.grpc_port}"


def credentials(settings: Settings) -> grpc.ServerCredentials:
    """The server's certificate, as it is at each connection; with a client CA set, clients must have one too.

    Raises:
        InvalidSetting.
    """
    certificate = LiveCertificate(settings)

    def configuration() -> grpc.ServerCertificateConfiguration:
        tls = certificate.current()
        return grpc.ssl_server_certificate_configuration([(tls.key, tls.certificate)], tls.client_ca)

    return grpc.dynamic_ssl_server_credentials(configuration(), configuration, bool(settings.tls_client_ca))


def main(settings: Settings) -> None:
    """Serve until SIGTERM. Raises: InvalidSetting."""
    gateway = Gateway.connect(settings, face="grpc")
    bootstrap_given(gateway.credentials, settings)
    asyncio.run(serve(gateway, tracer(settings, "rpc")))


async def serve(gateway: Gateway, tracer: Tracer | None = None) -> None:
    """Serve until a signal. Raises: InvalidSetting."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = RpcServer(gateway, tracer)
    await server.start()
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    run(main)
