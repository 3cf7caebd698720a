//! Two pages for whoever runs a directory: is it well, and what does it do.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::service::DirectoryStats;

/// The longest request that is read, in bytes.
const REQUEST_BYTES_MAX: usize = 2_048;
/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// Requests served at once.
const AT_ONCE_MAX: usize = 16;

/// Serves `/health` and `/metrics` (in the format of Prometheus) for ever.
pub(super) async fn serve(listener: TcpListener, stats: impl Fn() -> DirectoryStats + Send + Sync + 'static) {
    let (stats, room) = (Arc::new(stats), Arc::new(Semaphore::new(AT_ONCE_MAX)));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let stats = stats.clone();
                tokio::spawn(async move {
                    // Who is too slow is nobody that watches over us.
                    _ = timeout(DEADLINE, answer(stream, stats())).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a request for a page was lost");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, stats: DirectoryStats) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        match stream.read(&mut piece).await? {
            0 => break,
            length => request.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, kind, page) = page(line, stats);
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", page.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(page.as_bytes()).await?;
    stream.shutdown().await
}

fn page(line: &[u8], stats: DirectoryStats) -> (&'static str, &'static str, String) {
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/health")) => ("200 OK", "text/plain; charset=utf-8", "well\n".into()),
        (Some(b"GET"), Some(b"/metrics")) => ("200 OK", "text/plain; version=0.0.4", metrics(stats)),
        (Some(b"GET"), _) => ("404 Not Found", "text/plain; charset=utf-8", "There are /health and /metrics.\n".into()),
        _ => ("405 Method Not Allowed", "text/plain; charset=utf-8", "Only GET.\n".into()),
    }
}

fn metrics(stats: DirectoryStats) -> String {
    let mut text = String::new();
    let mut say = |name: &str, sort: &str, help: &str, value: u64| {
        // Writing to a text cannot fail.
        _ = writeln!(
            text,
            "# HELP peerflock_directory_{name} {help}\n# TYPE peerflock_directory_{name} {sort}\npeerflock_directory_{name} {value}"
        );
    };
    say("entries", "gauge", "Players registered.", stats.entries as u64);
    say("meshes", "gauge", "Meshes with somebody in them.", stats.meshes as u64);
    say("connections", "gauge", "Players connected.", stats.connections as u64);
    say("registrations_total", "counter", "Registrations and renewals.", stats.registrations);
    say("resolutions_total", "counter", "Questions for others.", stats.resolutions);
    say("letters_total", "counter", "Letters passed on between players.", stats.letters);
    say("relays", "gauge", "Pairs whose packets are relayed.", stats.relays as u64);
    say("relayed_bytes_total", "counter", "Bytes relayed, everything above UDP included.", stats.relayed_bytes);
    say(
        "relay_dropped_bytes_total",
        "counter",
        "Bytes not relayed because a pair had more than its rate.",
        stats.relay_dropped_bytes,
    );
    say("refusals_total", "counter", "Requests refused, for rates or limits.", stats.refusals);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_served_and_nonsense_is_answered_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, || DirectoryStats { entries: 3, ..DirectoryStats::default() }));
        for (request, status, part) in [
            ("GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "200", "well"),
            ("GET /metrics HTTP/1.1\r\n\r\n", "200", "\npeerflock_directory_entries 3\n"),
            ("GET / HTTP/1.1\r\n\r\n", "404", "/metrics"),
            ("POST /health HTTP/1.1\r\n\r\n", "405", "GET"),
            ("\r\n\r\n", "405", "GET"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{request:?}: {answer}");
        }
        let mut flood = TcpStream::connect(address).await.unwrap();
        _ = flood.write_all(&vec![b'x'; 1_000_000]).await;
        let mut answer = Vec::new();
        _ = flood.read_to_end(&mut answer).await;
    }
}
