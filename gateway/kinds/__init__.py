"""The kinds of jobs: one file for each. `gateway/jobs/kinds.py` names them."""
