//! Clients that hold connections by being slow, and clients that hold many connections.

use firn_shared::link::authentication::{HEADER, Secret};
use firn_tests::{
    backend::{Backend, Starting},
    gates::Gates,
    image::Image,
    package_set,
    program::Program,
    registry::Registry,
    wait::{LONG, until},
};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

const SECRET: &str = "old snow";
/// Shorter than the server's timeout.
const MOMENT: Duration = Duration::from_millis(50);

/// A backend with a timeout of two seconds.
fn impatient(more: &[&str]) -> Starting {
    let backend = Backend::serving_expression(&package_set::small("slow clients"));
    backend.args(&["--client-timeout", "2"]).args(more)
}

fn connect(backend: &Backend) -> TcpStream {
    let stream = TcpStream::connect(backend.address()).expect("the backend listens");
    stream.set_read_timeout(Some(LONG)).expect("a time limit");
    stream
}

/// Requests `/healthz` with curl from an address of its own: each address is another client. Returns the status.
fn health_as(backend: &Backend, number: u8) -> String {
    let url = format!("http://{}/healthz", backend.address());
    let interface = format!("127.0.0.{number}");
    Program::new("curl")
        .args(["-sS", "--interface", &interface, "-o", "/dev/null", "-w", "%{http_code}", &url])
        .run()
        .text()
}

/// Sends a byte now and then until the server closes the connection.
fn trickle(mut stream: &TcpStream) {
    until("the server ends the connection", LONG, || {
        sleep(MOMENT);
        stream.write_all(b"a").is_err().then_some(())
    });
}

/// Everything that is received until the connection ends, perhaps by a reset.
fn rest(mut stream: &TcpStream) -> String {
    let (mut said, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(size) => said.extend_from_slice(&part[..size]),
            Err(error) => {
                assert!(
                    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "it goes on: {error}"
                );
                break;
            }
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_head_that_never_ends() {
    let backend = impatient(&[]).start();
    for words in ["", "GE", "GET /v2/ HTTP/1.1\r\nhost: x\r\nx: "] {
        let mut stream = connect(&backend);
        stream.write_all(words.as_bytes()).expect("sent");
        trickle(&stream);
        assert!(!rest(&stream).contains("200 OK"), "{words:?}");
    }
    assert_eq!(backend.registry().get("/healthz").status, 200);
}

#[test]
fn a_body_that_never_ends() {
    let backend = impatient(&[]).start();
    for (body, more) in [("content-length: 1000000", ""), ("transfer-encoding: chunked", "f4240\r\n")] {
        let mut stream = connect(&backend);
        write!(stream, "PUT /v2/x/manifests/y HTTP/1.1\r\nhost: x\r\n{body}\r\n\r\n{more}").expect("sent");
        trickle(&stream);
    }
    // A client that sends nothing more is told the reason.
    let mut stream = connect(&backend);
    stream
        .write_all(b"PUT /v2/x/manifests/y HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
        .expect("sent");
    assert!(rest(&stream).starts_with("HTTP/1.1 405"));
}

/// A package set whose one package is larger than the system's buffers for a connection.
const LARGE: &str = r#"{ system, ... }: {
  large = derivation {
    name = "large-1.0";
    inherit system;
    builder = "/bin/bash";
    args = [ "-e" "-c" "mkdir -p $out/share; head -c 40000000 /dev/urandom > $out/share/large; exit 0" ];
    PATH = "/usr/bin:/bin";
  };
}
"#;

#[test]
fn an_answer_that_is_hardly_read() {
    let limits = ["--client-timeout", "2", "--least-rate", "1000000"];
    let backend = Backend::serving_expression(LARGE).args(&limits).start();
    // A client that reads at its own pace is fast enough.
    let image = Image::pull(&backend.registry(), "large");
    image.layers(&backend.registry());
    let largest = image.manifest.layers().iter().max_by_key(|layer| layer.size()).expect("a layer");
    let (digest, size) = (largest.digest(), largest.size());
    let mut stream = connect(&backend);
    write!(stream, "GET /v2/large/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let ended = format!("connection ended peer={}", stream.local_addr().expect("an address"));
    let mut part = [0; 1024];
    // At 20 KB/s, the whole layer would take half an hour.
    until("the server ends the connection", LONG, || {
        sleep(MOMENT);
        stream.read_exact(&mut part).expect("there is more");
        (backend.logged(&ended) > 0).then_some(())
    });
    // What the server had sent by then is in the system's buffers.
    let read = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or_default();
    assert!(read < size, "{read} of {size} bytes");
    image.layers(&backend.registry());
}

#[test]
fn many_connections_of_one_client() {
    const EACH: usize = 20;
    let backend = Backend::serving_expression(&package_set::small("crowd"));
    let backend = backend.args(&["--client-connections", &EACH.to_string()]).start();
    let mut held: Vec<_> = (0..EACH).map(|_| connect(&backend)).collect();
    let refused = until("there are too many", LONG, || {
        let mut stream = connect(&backend);
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        Some(rest(&stream)).filter(|said| said.starts_with("HTTP/1.1 429"))
    });
    assert!(refused.contains("retry-after: ") && refused.contains("TOOMANYREQUESTS"), "{refused}");
    assert_eq!(health_as(&backend, 2), "200", "another client");
    held.truncate(EACH / 2);
    until("there is a place again", LONG, || (health_as(&backend, 1) == "200").then_some(()));
}

/// All clients of an edge come from its few addresses.
#[test]
fn the_edge_is_many_clients() {
    const EACH: usize = 5;
    let backend = Backend::serving_expression(&package_set::small("edge")).args(&["--secret", SECRET]);
    let backend = backend.args(&["--client-connections", &EACH.to_string()]).start();
    let path = format!("/v2/greeting/blobs/sha256:{}", "0".repeat(64));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let proof = Secret::new(SECRET).sign("GET", &path, now);
    let signed: Vec<_> = (0..4 * EACH)
        .map(|i| {
            let mut stream = connect(&backend);
            write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n{HEADER}: {proof}\r\n\r\n").expect("sent");
            let mut status = [0; 12];
            stream.read_exact(&mut status).expect("an answer");
            assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 404", "the {i}th");
            stream
        })
        .collect();
    // An unsigned connection counts, also at the same address. So does a client that the edge has redirected here.
    let unsigned: Vec<_> = (0..EACH)
        .map(|_| {
            let mut stream = connect(&backend);
            write!(stream, "GET {path}?{HEADER}={proof} HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
            stream.read_exact(&mut [0; 12]).expect("an answer");
            stream
        })
        .collect();
    assert_eq!(health_as(&backend, 1), "429");
    assert_eq!(health_as(&backend, 2), "200");
    drop((signed, unsigned));
}

fn open_files(process: u32) -> (u64, u64) {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).expect("the process runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().expect("the soft limit"), numbers.next().expect("the hard limit"))
}

#[test]
fn more_connections_than_descriptors() {
    const SOFT: u64 = 128;
    const HARD: u64 = 2048;
    let gates = Gates::new();
    let backend = Backend::serving_expression(&gates.package_set()).args(&["--client-connections", "1000"]);
    let backend = backend.within(&["prlimit", &format!("--nofile={SOFT}:{HARD}")]).start();
    assert_eq!(open_files(backend.process()), (HARD, HARD));
    let held: Vec<_> = (0..4 * SOFT).map(|_| connect(&backend)).collect();
    let other = Registry::at(backend.address());
    assert_eq!(other.get("/healthz").status, 200);
    // The processes that it starts get the original limit: some programs cannot handle more.
    other.begin("gated-1");
    let nix = until("Nix builds", LONG, || {
        let session = backend.process().to_string();
        let found = Program::new("pgrep").args(["--session", &session, "--exact", "nix-store"]).run();
        found.text().lines().next().and_then(|line| line.parse::<u32>().ok())
    });
    assert_eq!(open_files(nix), (SOFT, HARD));
    drop(held);
}
