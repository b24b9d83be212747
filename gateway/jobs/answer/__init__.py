"""Parts of an answer besides its text: tool calls, and fields that a provider adds. Knows no job."""
