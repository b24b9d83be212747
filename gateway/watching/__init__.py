"""Following jobs: one subscription of a process, shared by all who watch a job there. Knows no face."""
