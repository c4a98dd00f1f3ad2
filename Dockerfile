# The app for an own server:
#   docker build -t rad3d-app .
#   docker run --read-only --tmpfs /tmp:size=4g --cap-drop ALL --security-opt no-new-privileges \
#     -p 7860:7860 rad3d-app
# Settings are environment variables, see rad3d/core/settings.py.
FROM python:3.12-slim-trixie AS build
WORKDIR /app
COPY requirements.lock ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.12-slim-trixie
WORKDIR /app
COPY --from=build /venv /venv
COPY --chmod=755 app.py spaces.yaml requirements.txt LICENSE ./
COPY --chmod=755 assets ./assets
COPY --chmod=755 rad3d ./rad3d
RUN useradd --system --no-create-home --uid 10001 rad3d \
    && /venv/bin/python -m compileall -q rad3d
ENV HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RAD3D_GRACE_SECONDS=6 \
    RAD3D_HOST=0.0.0.0 \
    RAD3D_LOG=json \
    RAD3D_PORT=7860 \
    RAD3D_RUNS_DIR=/tmp/runs
USER 10001
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=180s --retries=3 \
    CMD ["/venv/bin/python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['RAD3D_PORT'] + '/healthz', timeout=8)"]
# A list, not a shell line, so that SIGTERM reaches the app; it then has RAD3D_GRACE_SECONDS for
# running reports, which must stay below the 10 seconds after which Docker kills.
CMD ["/venv/bin/python", "app.py"]
