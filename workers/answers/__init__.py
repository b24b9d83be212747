"""What a model's answer means: content, reasoning and tool calls, read from its ids and text. Knows no engine."""
