"""The gRPC process as `cli/probe.py` asks it: the health service, at its own port, whatever its certificate says."""

from __future__ import annotations

import socket
import ssl

import grpc
from cryptography import x509
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from gateway.settings import Settings

#: How long an answer may take.
TIMEOUT_S = 5.0


def problem(settings: Settings, host: str) -> str:
    """Why it is not well; empty if it is. That it is not ready is no problem of its own: it has answered."""
    address = f"{host}:{settings.grpc_port}"
    try:
        if settings.tls_client_ca:  # only its clients have a certificate
            socket.create_connection((host.strip("[]"), settings.grpc_port), TIMEOUT_S).close()
            return ""
        with _channel(settings, address, host) as channel:
            HealthStub(channel).Check(HealthCheckRequest(), timeout=TIMEOUT_S)  # type: ignore[attr-defined]
    except (OSError, grpc.RpcError) as error:
        said = error.details() if isinstance(error, grpc.Call) else error
        return f"gRPC at {address} does not answer: {said}"
    return ""


def _channel(settings: Settings, address: str, host: str) -> grpc.Channel:
    options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]
    if settings.grpc_plaintext:
        return grpc.insecure_channel(address, options)
    # What is asked is whether it answers, not who it is: its own certificate is what it is trusted by.
    pem = ssl.get_server_certificate((host.strip("[]"), settings.grpc_port), timeout=TIMEOUT_S)
    options.append(("grpc.ssl_target_name_override", _name(pem)))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(pem.encode()), options)


def _name(pem: str) -> str:
    """A name that the certificate is for."""
    names = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    found = names.value.get_values_for_type(x509.DNSName)
    return found[0] if found else "localhost"
