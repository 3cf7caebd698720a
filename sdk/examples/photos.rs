//! Photos for everybody.
//!
//! ```text
//! cargo run --release -p peerflock --example photos -- anns-folder beach.jpg dunes.jpg
//! cargo run --release -p peerflock --example photos -- bobs-folder
//! ```
//! Shares the files that it is given, and fetches into its folder what the others share, with a bar for each. End it in the middle and start
//! it again: it goes on. `--for PEER` before the files shares them with that member only: what it says of itself when it starts.
//! `PEERFLOCK_INTERFACE=lo` keeps it on this machine.

#![allow(clippy::print_stdout, reason = "an example with a terminal for a face")]

use std::path::{Path, PathBuf};

use peerflock::service::content::{Content, ContentEvent, Offer, Quotas, Share, Transfer};
use peerflock::{PeerId, PeerMesh};

const BAR: usize = 40;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().ok_or("say where to put photos, and which to share")?);
    std::fs::create_dir_all(&folder)?;
    let mesh = PeerMesh::named("photos").start().await?;
    let content = Content::join(&mesh, Quotas::default())?;
    println!("{} is here; others join by the same name on this network", mesh.id());
    let mut readers: Vec<PeerId> = Vec::new();
    while let Some(word) = words.next() {
        if word == "--for" {
            readers.push(words.next().ok_or("--for whom?")?.parse()?);
            continue;
        }
        let offer = content.share(Share::file(&word).readers(readers.iter().copied())).await?;
        println!("shared {word} as {}", offer.id);
    }
    while let Some(event) = content.next_event().await {
        match event {
            ContentEvent::Offered(offer) => {
                let path = folder.join(name(&offer));
                if path.exists() {
                    continue;
                }
                match content.fetch_file(offer.id, &path).await {
                    Ok(transfer) => _ = tokio::spawn(show(transfer, path)),
                    Err(error) => println!("{}: {error}", path.display()),
                }
            }
            ContentEvent::Corrupt { id, peer } => println!("{peer} sent something else for {id}"),
            _ => {}
        }
    }
    Ok(())
}

/// Names come from others: only letters, digits and a few signs are taken over, and never a way out of the folder.
fn name(offer: &Offer) -> String {
    let harmless = |letter: char| if letter.is_alphanumeric() || "-_ .".contains(letter) { letter } else { '_' };
    let name: String = offer.name.chars().map(harmless).take(100).collect();
    let name = Path::new(name.trim_start_matches('.')).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| offer.id.to_string())
}

async fn show(mut transfer: Transfer, path: PathBuf) {
    let mut shown = usize::MAX;
    loop {
        let progress = transfer.progress();
        let part = progress.have as f64 / progress.len.max(1) as f64;
        let full = (part * BAR as f64) as usize;
        if full != shown {
            shown = full;
            let bar = format!("{}{}", "#".repeat(full), " ".repeat(BAR.saturating_sub(full)));
            println!("[{bar}] {:3.0} %  {} from {}", part * 100.0, path.display(), progress.holders);
        }
        if transfer.has_ended() {
            break;
        }
        transfer.changed().await;
    }
    match transfer.done().await {
        Ok(_) => println!("{} is here, and is passed on", path.display()),
        Err(error) => println!("{}: {error}", path.display()),
    }
}
