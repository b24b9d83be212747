# The web face, the keeper and Flower: no torch, no engines.
FROM python:3.11-slim
RUN useradd --create-home headrace
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir .
USER headrace
ENV HEADRACE_HTTP_HOST=0.0.0.0 HEADRACE_DATA_DIR=/home/headrace/var
EXPOSE 8000
CMD ["python", "-m", "web.serve"]
