"""The durable job: its record, its journal, and what ends it. Does not know what clients are shown."""
