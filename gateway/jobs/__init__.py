"""The durable job: its record, its journal, and what ends it. Knows not what clients are shown."""
