//! `firn build`: images without a server, identical to the server's.

use crate::{backend, dockerd};
use firn_tests::{backend, image::Image, package_set, podman::Podman, program::Program, skopeo};
use std::path::Path;
use tempfile::TempDir;

fn build(dir: &Path, image: &str, output: &str) -> String {
    let data = dir.join("data").display().to_string();
    let set = package_set::bundled().display().to_string();
    let arguments = ["build", image, "--pkgs-path", &set, "--data", &data, "--output", output];
    backend::command(&arguments).run().succeeded()
}

#[test]
fn an_oci_layout_is_what_the_server_serves() {
    let dir = TempDir::new().expect("a temporary directory");
    let layout = dir.path().join("layout");
    let digest = build(dir.path(), "shell/jq", &format!("oci:{}", layout.display()));
    assert_eq!(digest, Image::pull(&backend().registry(), "shell/jq").digest);
    let source = format!("oci:{}:latest", layout.display());
    assert_eq!(skopeo::skopeo(&["inspect", "--format", "{{.Digest}}", &source]).succeeded(), digest);
    let root = skopeo::unpack(&layout, "latest", dir.path());
    assert!(root.join("bin/jq").symlink_metadata().is_ok());
    // A second image is added to the same layout.
    build(dir.path(), "hello", &format!("oci:{}", layout.display()));
    skopeo::skopeo(&["inspect", &source]).succeeded();
}

#[test]
fn an_archive_loads_into_docker_and_podman() {
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("jq.tar").display().to_string();
    build(dir.path(), "shell/jq", &format!("docker-archive:{file}"));
    let program = ["jq", "-n", "6 * 7"];

    let said = dockerd().docker(&["load", "--quiet", "--input", &file]).succeeded();
    let image = said.strip_prefix("Loaded image: ").expect("docker says what it loaded");
    assert_eq!(image, "shell/jq:latest");
    assert_eq!(dockerd().run(&[], image, &program).succeeded(), "42");

    let podman = Podman::new();
    let said = podman.podman(["load", "--quiet", "--input", &file]).succeeded();
    let image = said.strip_prefix("Loaded image: ").expect("podman says what it loaded");
    assert_eq!(podman.run(&[], image, &program).succeeded(), "42");

    skopeo::skopeo(&["inspect", &format!("docker-archive:{file}")]).succeeded();
}

#[test]
fn errors_are_one_line_and_leave_nothing() {
    let dir = TempDir::new().expect("a temporary directory");
    let set = package_set::bundled().display().to_string();
    let data = dir.path().join("data").display().to_string();
    let layout = dir.path().join("layout");
    let output = format!("oci:{}", layout.display());
    let check = |image: &str, output: &str, status: i32, says: &str| {
        let finished =
            backend::command(&["build", image, "--pkgs-path", &set, "--data", &data, "--output", output])
                .run();
        assert_eq!(finished.status, status, "{finished:?}");
        let line = finished.stderr.lines().rfind(|line| line.contains(says));
        assert!(line.is_some() && finished.stdout.is_empty(), "{finished:?}");
    };
    check("gti", &output, 1, "did you mean git?");
    check("unfree-hello", &output, 1, "unfree");
    check("GIT", &output, 2, "lower case");
    check("hello", "tarball:x", 2, "oci:DIR or docker-archive:FILE");
    assert!(!layout.exists());
    check("hello", "docker-archive:/nonexistent/file.tar", 1, "cannot write");
}

/// The expressions are in the program. It can be copied anywhere and needs no variables to find them.
#[test]
fn the_program_is_all_that_is_needed() {
    let dir = TempDir::new().expect("a temporary directory");
    let copy = dir.path().join("another-name");
    // Copied by another process. If this process wrote the copy, a child that it starts meanwhile could have the file
    // open for writing for a moment, and then the file cannot be run.
    Program::new("cp").args([&backend::firn(), &copy]).run().succeeded();
    let variable = |name: &str, value: &str| format!("{name}={value}");
    let set = package_set::bundled().display().to_string();
    let finished = Program::new("env")
        .in_dir(dir.path())
        .args(["-i", &variable("PATH", &std::env::var("PATH").expect("$PATH is set"))])
        .args([variable("NIX_CONFIG", firn_tests::nix::config())])
        .args([copy.as_os_str()])
        .args(["build", "hello", "--json", "--pkgs-path", &set])
        .run()
        .succeeded();
    let record: serde_json::Value = serde_json::from_str(&finished).expect("JSON");
    assert_eq!(record["name"], "hello");
    assert_eq!(record["oci"]["digest"], Image::pull(&backend().registry(), "hello").digest.as_str());
}
