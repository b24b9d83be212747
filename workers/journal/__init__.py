"""How what a job becomes gets into its journal: claimed jobs, and the one writer of a process."""
