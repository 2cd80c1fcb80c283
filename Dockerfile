# The operator's image for those who have Docker: clients of PostgreSQL 14 to 18, each at Debian's own path, because a
# dump is taken by the clients of the server's own major version. `make image` builds another without Docker.
# This file was not run where Belay is developed: there is no Docker engine there.

FROM rust:1-trixie AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin belay

FROM debian:trixie-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates postgresql-common \
 && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y \
 && apt-get install --yes --no-install-recommends \
      postgresql-client-14 postgresql-client-15 postgresql-client-16 postgresql-client-17 postgresql-client-18 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /build/target/release/belay /usr/local/bin/belay
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/belay"]
