"""OpenVINO GenAI as an engine, and the processes that make files for it."""
