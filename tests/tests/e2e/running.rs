//! What programs find in a container, as root and as an unprivileged user.

use crate::{backend, dockerd};

const USERS: [&str; 2] = ["0", "1000"];

fn image(name: &str) -> String {
    let image = format!("{}/{name}", backend().address());
    if dockerd().docker(&["image", "inspect", &image]).status != 0 {
        dockerd().pull(&image);
    }
    image
}

/// Runs a bash script as root and as a user, and compares its output.
fn check(name: &str, script: &str, expect: &str) {
    let image = image(name);
    for user in USERS {
        let printed = dockerd().run(&["--user", user], &image, &["bash", "-euc", script]).succeeded();
        assert_eq!(printed, expect.replace("UID", user), "{name} as {user}: {script}");
    }
}

#[test]
fn git_makes_commits() {
    check(
        "shell/git/curl",
        "export GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000'
         cd \"$(mktemp -d)\"
         git init --quiet --initial-branch=main
         git config user.name Firn && git config user.email firn@example.org
         echo snow > file && git add file && git commit --quiet --message 'The first snow'
         git log --format='%s by %an' && git status --short && git fsck --strict",
        "The first snow by Firn",
    );
}

#[test]
fn python_has_its_library() {
    check(
        "shell/python3",
        "python3 - <<'END'
import ctypes, hashlib, json, os, pathlib, re, sqlite3, ssl, subprocess, tempfile, zlib
database = sqlite3.connect(':memory:')
rows = database.execute('select 6 * 7').fetchall()
with tempfile.TemporaryDirectory() as place:
    path = pathlib.Path(place, 'file')
    path.write_bytes(zlib.compress(b'firn'))
    content = zlib.decompress(path.read_bytes())
said = subprocess.run(['bash', '-c', 'echo $((6 * 7))'], capture_output=True, check=True).stdout
certificates = len(ssl.create_default_context().get_ca_certs())
print(json.dumps([rows, content.decode(), said.decode().strip(), certificates > 50, os.getuid()]))
END",
        "[[[42]], \"firn\", \"42\", true, UID]",
    );
}

#[test]
fn jq_runs_a_program() {
    check(
        "shell/jq",
        r#"echo '{"layers":[{"size":3},{"size":4}]}' | jq --compact-output '[.layers[].size] | {sum: add, max: max}'"#,
        r#"{"sum":7,"max":4}"#,
    );
}

#[test]
fn nginx_accepts_its_configuration() {
    let image = image("nginx");
    for user in USERS {
        let said = dockerd().run(&["--user", user], &image, &["nginx", "-t"]);
        assert!(said.status == 0 && said.stderr.contains("test is successful"), "{said:?}");
    }
}

#[test]
fn the_file_system_is_fit_to_use() {
    check(
        "shell/git/curl",
        "touch /tmp/a /var/tmp/a \"$HOME/a\"
         stat --format '%a %n' /tmp /var/tmp
         certificates=$(<\"$SSL_CERT_FILE\") && [[ $certificates == *'BEGIN CERTIFICATE'* ]]
         for bundle in /etc/ssl/certs/ca-bundle.crt /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt
         do test \"$bundle\" -ef \"$SSL_CERT_FILE\"; done
         test -d /etc && test ! -L /etc
         id --user && echo \"$LANG\"",
        "1777 /tmp\n1777 /var/tmp\nUID\nC.UTF-8",
    );
}

#[test]
fn users_have_names() {
    let image = image("shell/git/curl");
    let check = |user: &str, expect: &str| {
        let printed = dockerd()
            .run(&["--user", user], &image, &["bash", "-c", "id -un; id -gn; echo $HOME"])
            .succeeded();
        assert_eq!(printed, expect, "{user}");
    };
    check("root", "root\nroot\n/root");
    check("user", "user\nuser\n/home/user");
    check("1000", "user\nuser\n/home/user");
    check("nobody", "nobody\nnobody\n/var/empty");
}

#[test]
fn services_and_protocols_have_names() {
    check(
        "shell/python3",
        "python3 -c 'import socket
print(socket.getservbyname(\"https\"), socket.getservbyport(22), socket.getprotobyname(\"udp\"))'
         test ! -e /etc/rpc && test ! -e /etc/ethertypes",
        "443 ssh 17",
    );
}

#[test]
fn time_zones_are_known_where_there_is_tzdata() {
    let winter_and_summer =
        "for time in 1700000000 1720000000; do TZ=Europe/Berlin date --date=@$time +%Z; done";
    check("shell/tzdata", winter_and_summer, "CET\nCEST");
    // nixpkgs' C library looks in the other place.
    check("shell/tzdata", "test /etc/zoneinfo/Asia/Tokyo -ef /usr/share/zoneinfo/Asia/Tokyo", "");
    check("shell/python3", "test ! -L /etc/zoneinfo && test ! -e /usr/share/zoneinfo", "");
}

#[test]
fn the_image_says_what_it_is() {
    check(
        "shell/python3",
        "source /etc/os-release && echo \"$ID: $PRETTY_NAME\"",
        "firn: Firn image of Nix packages",
    );
    check(
        "shell/python3",
        "python3 -c 'import platform; print(platform.freedesktop_os_release()[\"NAME\"])'",
        "Firn",
    );
}

#[test]
fn scripts_find_their_interpreters() {
    check(
        "shell/git/curl",
        "cd \"$(mktemp -d)\"
         printf '#!/bin/sh\\necho sh\\n' > a && printf '#!/usr/bin/env bash\\necho env\\n' > b
         chmod +x a b && ./a && ./b",
        "sh\nenv",
    );
}

#[test]
fn the_command_is_bash_or_the_only_program() {
    let default = |name: &str| {
        dockerd().docker(&["image", "inspect", "--format", "{{json .Config.Cmd}}", &image(name)]).succeeded()
    };
    assert_eq!(default("shell/git/curl"), r#"["/bin/bash"]"#);
    assert_eq!(default("nginx"), r#"["/bin/nginx"]"#);
    assert_eq!(dockerd().run(&[], &image("hello"), &[]).succeeded(), "Hello, world!");
}

#[test]
fn user_images_run_unprivileged() {
    let script = "id -u; id -g; id -un; echo $HOME; pwd; touch ~/file && echo may write; touch /etc/file 2>/dev/null || echo may not";
    let said = dockerd().run(&[], &image("user/shell/git"), &["bash", "-c", script]).succeeded();
    assert_eq!(said, "1000\n1000\nuser\n/home/user\n/home/user\nmay write\nmay not");
    for name in ["root/shell/git", "shell/git"] {
        assert_eq!(dockerd().run(&[], &image(name), &["bash", "-c", "id -u"]).succeeded(), "0", "{name}");
    }
    // Only that one word differs.
    let layers = |name: &str| {
        let format = "{{json .RootFS.Layers}}";
        dockerd().docker(&["image", "inspect", "--format", format, &image(name)]).succeeded()
    };
    assert_eq!(layers("user/shell/git"), layers("shell/git"));
}

#[test]
fn debug_brings_tools_to_look_around_with() {
    let image = image("debug/hello");
    let script = "set -e
        ps -e -o args= | grep -q 'bash -c'
        ls -l /proc/self/fd | grep -c . >/dev/null
        find /bin -name hello | grep -q hello
        curl --version | grep -q libcurl
        file --version >/dev/null && less --version >/dev/null
        hello";
    let said = dockerd().run(&[], &image, &["bash", "-c", script]).succeeded();
    assert_eq!(said.lines().last(), Some("Hello, world!"));
    // The command is still that of the image without the addition.
    assert_eq!(dockerd().run(&[], &image, &[]).succeeded(), "Hello, world!");
    let said = dockerd().run(&["--user", "1000"], &self::image("debug"), &["bash", "-c", "ps -e -o comm="]);
    assert!(said.succeeded().contains("ps"));
}
