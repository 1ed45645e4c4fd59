# The image: two stages, so that nothing of the build is in the result.
# Build: docker build -t flxpoint-gateway .
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.lock ./
RUN python3 -m venv /opt/gateway \
 && /opt/gateway/bin/pip install --no-cache-dir --no-compile --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY openapi ./openapi
COPY app ./app
RUN /opt/gateway/bin/pip install --no-cache-dir --no-compile --no-deps . \
 && /opt/gateway/bin/pip uninstall --yes pip setuptools \
 && /opt/gateway/bin/python -m compileall -q -x '/(pygments/(lexers|styles)|sqlalchemy/(testing|dialects/(mssql|mysql|oracle)))/' /opt/gateway/lib \
 && find /opt/gateway/lib -name '*.so' -exec strip --strip-unneeded {} +

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && useradd --system --uid 10001 --home-dir /var/lib/flxpoint-gateway --create-home gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_HOST=0.0.0.0 \
    GATEWAY_STATE_DIR=/var/lib/flxpoint-gateway
USER 10001
WORKDIR /var/lib/flxpoint-gateway
VOLUME /var/lib/flxpoint-gateway
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
  CMD ["python3", "-m", "app.probe"]
ENTRYPOINT ["flxpoint-gateway"]
CMD ["serve"]
