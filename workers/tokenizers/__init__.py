"""Text and conversations to token ids, and back. Knows no engine and no job."""
