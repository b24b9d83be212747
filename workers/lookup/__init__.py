"""From a name that a person types to a pinned source, what its files say, and how this device would serve it."""
