# orb8's images, a target each, for linux/amd64 and linux/arm64:
#   docker build --target agent --tag orb8-agent .    the agent, and the CLI to ask it
#   docker build --target cli   --tag orb8 .          the CLI alone, to ask agents elsewhere
#   docker build --target binaries --output out .     the programs, for packages
# The eBPF objects are part of the source, and are the same on both: cargo and C compilers are enough.

# The compiler runs on the builder's own architecture and makes the image's: nothing is emulated.
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-bookworm AS build
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /src
# A C compiler of the other architecture is also its linker, and what ring and zstd are built with.
RUN case "$TARGETARCH" in \
        amd64) cpu=x86_64 ;; \
        arm64) cpu=aarch64 ;; \
        *) echo "error: orb8 is built for amd64 and arm64, not for $TARGETARCH" >&2; exit 1 ;; \
    esac \
 && echo "$cpu" >/cpu \
 && rustup target add "$cpu-unknown-linux-gnu" \
 && if [ "$BUILDARCH" != "$TARGETARCH" ]; then \
        apt-get update \
     && apt-get install --yes --no-install-recommends \
            "gcc-$(echo "$cpu" | tr _ -)-linux-gnu" "libc6-dev-$TARGETARCH-cross" \
     && rm -rf /var/lib/apt/lists/*; \
    fi
COPY . .
# The CLI without the engine: it talks to agents, and the image is smaller by what it does not load.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cpu=$(cat /cpu) \
 && target="$cpu-unknown-linux-gnu" \
 && export "CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_LINKER=$cpu-linux-gnu-gcc" \
 && cargo build --release --locked --target "$target" --package orb8-agent \
 && cargo build --release --locked --target "$target" --package orb8 --no-default-features \
 && install -D -t /out "target/$target/release/orb8-agent" "target/$target/release/orb8" \
 && cargo build --release --locked --target "$target" --package orb8 \
 && install -D "target/$target/release/orb8" /out/standalone/orb8

# What packages are made of: here the CLI has the engine, since a host may have no agent.
FROM scratch AS binaries
COPY --from=build --chown=0:0 --chmod=0755 /out/orb8-agent /
COPY --from=build --chown=0:0 --chmod=0755 /out/standalone/orb8 /

# glibc, libgcc, authorities and time zones, and neither shell nor package manager. Not a static binary
# on nothing: that would be musl, whose allocator is several times slower where threads share it, and
# what docs/benchmarks.md measures is glibc. The digest is an index of both architectures.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f AS cli
ARG REVISION=unknown
LABEL org.opencontainers.image.title="orb8" \
      org.opencontainers.image.description="The command line of orb8: asks agents what runs on the network" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="https://github.com/Ignoramuss/orb8" \
      org.opencontainers.image.documentation="https://github.com/Ignoramuss/orb8/tree/main/docs" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=0:0 --chmod=0755 /out/orb8 /usr/local/bin/
# Nobody in particular.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/orb8"]

FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f AS agent
ARG REVISION=unknown
LABEL org.opencontainers.image.title="orb8-agent" \
      org.opencontainers.image.description="orb8's node agent: counts traffic in the kernel, with its owners" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="https://github.com/Ignoramuss/orb8" \
      org.opencontainers.image.documentation="https://github.com/Ignoramuss/orb8/tree/main/docs" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=0:0 --chmod=0755 /out/orb8-agent /out/orb8 /usr/local/bin/
# Not nonroot: capabilities that a container is given reach root only, and those of a file are void
# where privileges cannot be gained. deploy/base/daemonset.yaml drops all of root's but four.
USER 0:0
EXPOSE 9090 9091
ENTRYPOINT ["/usr/local/bin/orb8-agent"]
