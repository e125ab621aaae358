# Postern in a container: the program alone, no shell, not root.
#
#   docker build -t postern .
#
# How to run it, and why not with Docker's own port forwarding: contrib/docker/compose.yml

FROM rust:1.95-slim-bookworm AS build
# For the C sources of the allocator and the TLS library, and the certificates that Mojang's is checked against.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin postern \
    && mkdir -p /empty

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/postern /usr/local/bin/postern
COPY --from=build /build/LICENSE /usr/share/doc/postern/LICENSE
# config.yml, sessions, bans, logs: the first start writes them here.
COPY --from=build --chown=65532:65532 --chmod=0700 /empty /data
WORKDIR /data
VOLUME /data
USER 65532:65532
EXPOSE 25565
STOPSIGNAL SIGTERM
# Whether the proxy still answers, inside of the container. Neither an outage nor a mistake in config.yml is an illness.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["/usr/local/bin/postern", "health"]
ENTRYPOINT ["/usr/local/bin/postern"]
CMD ["run"]
