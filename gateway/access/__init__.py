"""Who may ask, for what and how much. Knows no job and no model."""
