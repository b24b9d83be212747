"""`headrace service`: start Headrace with the machine, by systemd."""
