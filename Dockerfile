# The same base builds and runs, because a venv holds the path of its interpreter. A tag moves: pin the base by its digest
# with --build-arg PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie@sha256:..., which
# `docker buildx imagetools inspect docker.io/library/python:3.13-slim-trixie` prints.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY deploy/requirements.txt deploy/build-requirements.txt ./
RUN python3 -m venv /build/tools \
    && python3 -m venv --without-pip /opt/anthropic-exporter \
    && /build/tools/bin/pip install --require-hashes -r build-requirements.txt \
    && /build/tools/bin/pip --python /opt/anthropic-exporter install --no-compile --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
# Lexers colour source code, and there is none to be shown. Nobody can write bytecode where the image runs, and a check by time would fail where a builder sets all times to one.
RUN /build/tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir wheel . \
    && /build/tools/bin/pip --python /opt/anthropic-exporter install --no-compile --no-index --no-deps wheel/*.whl \
    && find /opt/anthropic-exporter -type d \( -name test -o -name tests -o -path '*/pygments/lexers' \) -prune -exec rm -r {} + \
    && /opt/anthropic-exporter/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/anthropic-exporter

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/anthropic-exporter /opt/anthropic-exporter
# Images of Python have no bytecode of the standard library: importing all that runs writes what it needs of it.
RUN install -d -m 0750 -o 65532 -g 65532 /data \
    && /opt/anthropic-exporter/bin/python -c 'import exporter.app, exporter.backfill, exporter.check, exporter.cli, exporter.export, exporter.report, exporter.state' \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/ensurepip
ENV PATH="/opt/anthropic-exporter/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ANTHROPIC_EXPORTER_STATE_PATH=/data/anthropic-exporter.db \
    ANTHROPIC_EXPORTER_WEB_LISTEN_ADDRESS=0.0.0.0:10017
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="anthropic-exporter" \
    org.opencontainers.image.description="Prometheus exporter for the usage and cost of an organisation on the Anthropic API" \
    org.opencontainers.image.source="https://github.com/anthropic-exporter/anthropic-exporter" \
    org.opencontainers.image.url="https://github.com/anthropic-exporter/anthropic-exporter" \
    org.opencontainers.image.documentation="https://github.com/anthropic-exporter/anthropic-exporter#readme" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
VOLUME /data
EXPOSE 10017
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["anthropic-exporter", "health"]
ENTRYPOINT ["anthropic-exporter"]
