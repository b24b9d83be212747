"""The gRPC face: parse, call one function of the domain, render."""
