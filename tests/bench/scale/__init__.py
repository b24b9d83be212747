"""`make bench ARGS="--only scale"`: what a thousand replicas on a hundred nodes cost, and whom."""
