"""What runs models: agent, model worker, engine process, keeper."""
