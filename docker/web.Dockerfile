# The web and gRPC faces, the provider worker, the keeper and Flower: no torch, no engines.
FROM python:3.11-slim
RUN useradd --create-home headrace
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir ".[providers]"
USER headrace
# A volume that is mounted here keeps this owner.
RUN mkdir -p /home/headrace/var/tls
ENV HEADRACE_HTTP_HOST=0.0.0.0 HEADRACE_GRPC_HOST=0.0.0.0 HEADRACE_DATA_DIR=/home/headrace/var
EXPOSE 8000 50051
CMD ["python", "-m", "web.wsgi_server"]
