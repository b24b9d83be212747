"""Shapes of requests and answers. No input or output."""
