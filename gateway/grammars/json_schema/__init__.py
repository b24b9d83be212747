"""JSON schemas as grammars of the JSON texts that they allow."""

from gateway.grammars.json_schema.converter import json_value

__all__ = ["json_value"]
