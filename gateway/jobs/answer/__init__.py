"""What an answer may hold beside its text: calls of tools, and what a provider adds. Knows no job."""
