"""What commands do over the HTTP API."""
