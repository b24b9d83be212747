"""What is special about one kind of job: how it becomes sequences, and what their outputs come to."""
