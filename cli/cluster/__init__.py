"""Commands about the machines of an installation."""
