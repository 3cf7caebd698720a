//! Chat among all who know the room's name, or its password, too: Peer Channel's samples "Chat" and "Secure Chat".
//!
//! ```text
//! cargo run -p peerflock --example chat -- kitchen Ann
//! cargo run -p peerflock --example chat -- kitchen Bob 'the password, if there is one'
//! ```
//! `PEERFLOCK_INTERFACE=lo` keeps it on this machine.
#![allow(clippy::print_stdout, reason = "the terminal is its face")]

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
    let name_of = |mesh: &PeerMesh, peer: PeerId| {
        let member = mesh.members().into_iter().find(|member| member.peer == peer);
        member.map_or_else(|| peer.short(), |member| member.profile.name)
    };
    println!("in {room}, {} here", mesh.members().len());
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
                Some(Event::PeerJoined { profile, .. }) => println!("{} is here", profile.name),
                Some(Event::PeerLeft { peer, .. }) => println!("{} has gone", peer.short()),
                Some(Event::Message { from, payload, .. }) => {
                    println!("{}: {}", name_of(&mesh, from), String::from_utf8_lossy(&payload));
                }
                Some(_) => {}
                None => break,
            },
        }
    }
    mesh.leave().await;
    Ok(())
}
