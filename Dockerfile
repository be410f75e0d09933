# The project with all its extras, in the versions of constraints.txt (docs/operations.md, "In containers").
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false
WORKDIR /app
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt --editable '.[catboost,dask,s3,tune]' && \
    python -m compileall -q flows tasks

# A new volume takes over the owner of the folder.
RUN useradd --uid 1000 --create-home music && install --directory --owner music /warehouse
USER 1000
ENV MUSIC_WAREHOUSE=/warehouse
VOLUME /warehouse

# The API is what runs unless another command is given; compose.yaml has the health checks of the other roles.
EXPOSE 8000
HEALTHCHECK --start-period=60s --timeout=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
CMD ["python", "-m", "flows.api", "--host", "0.0.0.0"]
