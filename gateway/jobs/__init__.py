"""The durable job: its record, its journal, who follows it and what ends it. Knows no model and no engine."""
