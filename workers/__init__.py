"""The processes that do the work: agent, model worker, engine process, provider worker, keeper."""
