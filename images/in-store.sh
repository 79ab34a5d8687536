#!/bin/sh
# in-store.sh COMMAND …: run it with --store and with the addresses and credentials of the services in compose.yaml.
set -eu
settings="$(dirname "$0")/.env"
[ -f "$settings" ] || { echo "there is no $settings: make up writes it and starts the services" >&2; exit 2; }
# shellcheck disable=SC1090
. "$settings"
export AWS_ENDPOINT_URL="http://127.0.0.1:$MINIO_PORT" AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID="$MINIO_ROOT_USER" AWS_SECRET_ACCESS_KEY="$MINIO_ROOT_PASSWORD"
export MLFLOW_TRACKING_URI="http://127.0.0.1:$MLFLOW_PORT"
exec "$@" --store "s3://$FORGE_BUCKET/runs"
