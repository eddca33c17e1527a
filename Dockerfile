# syntax=docker/dockerfile:1
# The server's image: docker build -t hatstand:0.1.0 .
# One image for GPU and CPU: torch's wheel brings the CUDA libraries, the host brings the driver.

FROM python:3.12-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY server server
COPY registry registry
COPY training training
COPY clients clients
# pip's cache lives beside the build, so that a change to the code downloads nothing again.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/hatstand \
    && /opt/hatstand/bin/pip wheel --no-deps --wheel-dir /dist . \
    && /opt/hatstand/bin/pip install -c constraints.txt "$(echo /dist/hatstand-*.whl)[server,training,data,cuda,postgres,s3,otel]"

FROM python:3.12-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Hatstand" \
      org.opencontainers.image.description="One 4-bit Mistral stays resident; every task is a LoRA adapter behind one OpenAI-compatible URL." \
      org.opencontainers.image.source="https://github.com/hatstand/hatstand" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The user owns nothing but its state: code it cannot write is code it cannot be made to change.
RUN groupadd --gid 10001 hatstand \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin hatstand \
    && install --directory --owner=10001 --group=10001 /var/lib/hatstand
COPY --from=build /opt/hatstand /opt/hatstand
# All state lives in one folder; with /tmp it is all that has to be writable.
ENV PATH=/opt/hatstand/bin:$PATH \
    HATSTAND_HOME=/var/lib/hatstand \
    HF_HOME=/var/lib/hatstand/huggingface \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /tmp
VOLUME ["/var/lib/hatstand"]
EXPOSE 8000
ENTRYPOINT ["hatstand"]
CMD ["--help"]
