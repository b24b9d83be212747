"""The way in for other machines: one port with TLS, where they join, and through which they reach Redis.

The server that ships with Headrace speaks no TLS and must never be on a network itself. No byte reaches it without
a certificate that the gateway has made for a machine that an admin's token has let in.
"""
