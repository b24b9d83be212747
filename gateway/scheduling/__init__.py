"""Which job of a model is next: lines, shares, fairness between API keys. Knows no record, engine or face."""
