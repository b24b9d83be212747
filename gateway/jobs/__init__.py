"""The durable job: its record, its journal, who follows it and what ends it. Knows not what clients are shown."""
