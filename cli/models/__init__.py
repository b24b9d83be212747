"""Commands that find, add and talk to models, over the HTTP API."""
