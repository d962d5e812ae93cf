# Shared by the measurements of pulls: servers of the bundled package set, and clients. Source it with `here` set,
# from the top of the checkout. It sets `work`, which is removed at the end, and ends what `serve` started.
# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is for those who source this
source setup/lib/report.bash
source setup/lib/measure.bash
setup/clients
setup/compiler
setup/nix
source setup/nix-env.sh
packages=$(setup/package-set)
newer=$(setup/newer-clients)
if [[ -z ${FIRN_BIN:-} ]]; then
    say "building the backend"
    cargo build --release --package firn >&2
    FIRN_BIN=${CARGO_TARGET_DIR:-$PWD/target}/release/firn
fi
unset FIRN_LISTEN FIRN_DATA FIRN_STORAGE FIRN_SECRET FIRN_PKGS_REPO FIRN_CHANNEL FIRN_STRATEGY FIRN_PROFILE \
    FIRN_POPULARITY_URL FIRN_LAYER_BUDGET

# On a disk, at a path that the newer root can use too.
work=$(mktemp -d /var/tmp/firn-pulls-XXXXXX)
servers=()
puller=
stop() {
    # Stop the client first: it has files in the directory open.
    [[ -z $puller ]] || { kill "$puller"; wait "$puller"; } 2>/dev/null || true
    ((${#servers[@]} == 0)) || { kill "${servers[@]}"; wait "${servers[@]}"; } 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap stop EXIT
trap 'exit 1' INT TERM
cp "${here:?}/client" "$work/client"

# start NAME COMMAND…: starts a server in the background, with its log in `work`.
start() {
    setpriv --pdeathsig TERM -- "${@:2}" >"$work/$1.log" 2>&1 &
    servers+=($!)
}
# until_answers PORT PATH SECONDS [CURL-OPTION…]
until_answers() {
    local deadline=$((SECONDS + $3))
    until curl -sf "${@:4}" "http://127.0.0.1:$1$2" >/dev/null; do
        ((SECONDS < deadline)) || { cat "$work"/*.log >&2; fail "port $1 does not answer $2"; }
        sleep 0.1
    done
}
accept='Accept: application/vnd.oci.image.manifest.v1+json'

declare -A port=()
# serve NAME IMAGES OPTION…: starts a server of the bundled set. When this returns, it has built each of the images
# (separated by spaces), and has read every layer once. The manifests are in `work/NAME/IMAGE`.
serve() {
    local name=$1 image digest
    port[$name]=$(free_port)
    FIRN_LOG=warn start "firn-$name" "$FIRN_BIN" serve --pkgs-path "$packages" --listen "127.0.0.1:${port[$name]}" \
        --data "$work/data-$name" "${@:3}"
    until_answers "${port[$name]}" /healthz 60
    for image in $2; do
        mkdir -p "$(dirname "$work/$name/$image")"
        until_answers "${port[$name]}" "/v2/$image/manifests/latest" 300 -H "$accept" -o "$work/$name/$image.json"
        for digest in $(jq -r '.layers[].digest' "$work/$name/$image.json"); do
            echo "url = \"http://127.0.0.1:${port[$name]}/v2/$image/blobs/$digest\""
            echo 'output = "/dev/null"'
        done | curl -sf --config -
    done
}

clients=(docker20 docker28 podman5 containerd2)
declare -A client_name=(
    [docker20]="Docker 20.10" [docker28]="Docker 28 (containerd store)" [podman5]="podman 5.8"
    [containerd2]="containerd 2.1"
)
# pulls CLIENT PORT IMAGE…: an empty client pulls the images. `work/pulled` then has the output of `client`.
pulls() {
    local client=$1 at=localhost:$2 dir=$work/storage
    local images=("${@:3}")
    images=("${images[@]/#/$at/}")
    # Sync what others have written first.
    rm -rf --one-file-system "$dir" && sync
    case $client in
    docker20) set -- unshare --mount --propagation private "$work/client" docker ;;
    docker28) set -- "$newer/run" --bind "$work" "$work/client" docker-containerd ;;
    podman5) set -- "$newer/run" --bind "$work" "$work/client" podman ;;
    containerd2) set -- "$newer/run" --bind "$work" "$work/client" containerd ;;
    *) fail "$client is no client; there are: ${!client_name[*]}" ;;
    esac
    # `wait` lets a signal interrupt it.
    setpriv --pdeathsig TERM -- "$@" "$dir" "${images[@]}" >"$work/pulled" &
    puller=$!
    wait "$puller" || fail "${client_name[$client]} could not pull"
    puller=
}
layers_of() { jq '.layers | length' "$work/$1/$2.json"; }
bytes_of() { jq '[.layers[].size] | add' "$work/$1/$2.json"; }
