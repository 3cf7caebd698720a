//! Chat among all who know the room's name, or its password, too: Peer Channel's samples "Chat" and "Secure Chat".
//!
//! ```text
//! cargo run -p peerflock --example chat -- kitchen Ann
//! cargo run -p peerflock --example chat -- kitchen Bob 'the password, if there is one'
//! ```
//! `PEERFLOCK_INTERFACE=lo` keeps it on this machine.
#![allow(clippy::print_stdout, reason = "the terminal is its face")]

use std::collections::BTreeMap;
use std::io::BufRead;

use peerflock::{Event, PeerId, PeerMesh, SendError, Target, Topic};

const CHAT: Topic = Topic(Topic::RESERVED);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(room), Some(name)) = (arguments.next(), arguments.next()) else { return Err("say a room and your name".into()) };
    let mut builder = PeerMesh::named(format!("chat {room}")).player(name);
    if let Some(password) = arguments.next() {
        builder = builder.password(password);
    }
    let mesh = builder.start().await?;
    let (lines, mut typed) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    // Also of those who have gone.
    let mut names: BTreeMap<PeerId, String> =
        mesh.members().into_iter().map(|member| (member.peer, member.profile.name)).collect();
    println!("in {room}; type a line to say it");
    loop {
        tokio::select! {
            biased;
            line = typed.recv() => match line {
                None => break,
                Some(line) => match mesh.send(Target::All, CHAT, line) {
                    Err(SendError::NobodyThere) => println!("(nobody is here to read it)"),
                    sent => sent?,
                },
            },
            event = mesh.next_event() => match event {
                Some(Event::PeerJoined { peer, profile, .. }) => {
                    println!("{} is here", profile.name);
                    names.insert(peer, profile.name);
                }
                Some(Event::PeerLeft { peer, .. }) => println!("{} has gone", name_of(&names, &peer)),
                Some(Event::Message { from, payload, .. }) => {
                    println!("{}: {}", name_of(&names, &from), String::from_utf8_lossy(&payload));
                }
                Some(_) => {}
                None => break,
            },
        }
    }
    mesh.leave().await;
    Ok(())
}

fn name_of(names: &BTreeMap<PeerId, String>, peer: &PeerId) -> String {
    names.get(peer).cloned().unwrap_or_else(|| peer.short())
}
