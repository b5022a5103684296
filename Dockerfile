# orb8's images, a target each:
#   docker build --target agent --tag orb8-agent .    the agent, and the CLI to ask it
#   docker build --target cli   --tag orb8 .          the CLI alone, to ask agents elsewhere
# The eBPF objects are part of the source: cargo and the C compiler of the first image are enough.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
# The CLI without the engine: it talks to agents, and the image is smaller by what it does not load.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package orb8-agent \
 && cargo build --release --locked --package orb8 --no-default-features \
 && install -D -t /out target/release/orb8-agent target/release/orb8

FROM debian:12.12-slim AS cli
LABEL org.opencontainers.image.title="orb8" \
      org.opencontainers.image.description="The command line of orb8: asks agents what runs on the network" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.source="https://github.com/Ignoramuss/orb8" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=0:0 --chmod=0755 /out/orb8 /usr/local/bin/
# Nobody in particular.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/orb8"]

FROM debian:12.12-slim AS agent
LABEL org.opencontainers.image.title="orb8-agent" \
      org.opencontainers.image.description="orb8's node agent: counts traffic in the kernel, with its owners" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.source="https://github.com/Ignoramuss/orb8" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=0:0 --chmod=0755 /out/orb8-agent /out/orb8 /usr/local/bin/
# Capabilities that a container is given reach root only; deploy/base/daemonset.yaml drops the rest.
USER 0:0
EXPOSE 9090 9091
ENTRYPOINT ["/usr/local/bin/orb8-agent"]
