//! A web server with one document, for what Firn fetches from URLs.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

/// Serves a JSON document to whoever asks, in a thread that ends with the test program. Returns the URL and
/// the first lines of the requests as they come in.
///
/// # Panics
/// When it cannot listen.
pub fn serve(document: String) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/data.json", listener.local_addr().expect("an address"));
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.find(String::is_empty);
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", document.len());
            // The client or the test may be gone already.
            let _ = stream.write_all(format!("{head}{document}").as_bytes());
            let _ = sender.send(first);
        }
    });
    (url, requests)
}
