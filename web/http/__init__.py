"""HTTP alone: bodies, headers, errors, the OpenAPI document. Knows no gRPC."""
