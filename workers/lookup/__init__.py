"""From a name that a person types to a model's pinned source, what its files say, and how this device would serve it."""
