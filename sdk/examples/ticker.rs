//! Scores to any number of readers, without a server.
//!
//! ```text
//! cargo run -p peerflock --example ticker -- publish tennis
//! cargo run -p peerflock --example ticker -- read 'scores/*'
//! ```
//! Start as many readers and publishers as you like, on one machine or on one network (`PEERFLOCK_INTERFACE=lo` keeps it on this one).
//! A reader that comes late begins with the last score, also when its publisher has gone.
#![allow(clippy::print_stdout, reason = "the terminal is its face")]

use std::time::Duration;

use peerflock::PeerMesh;
use peerflock::service::topics::{SubscribeOptions, Topics};
use serde::{Deserialize, Serialize};

/// What is published: both sides need the same type and nothing else.
#[derive(Serialize, Deserialize)]
struct Score {
    home: u32,
    guests: u32,
    minute: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (role, what) = (arguments.next().unwrap_or_default(), arguments.next());
    let mesh = PeerMesh::named("peerflock ticker").start().await?;
    let topics = Topics::join(&mesh)?;
    match role.as_str() {
        "publish" => publish(&topics, &what.unwrap_or_else(|| "tennis".into())).await,
        "read" => read(&topics, &what.unwrap_or_else(|| "scores/*".into())).await,
        _ => Err("say `publish <game>`, or `read <pattern>`, `scores/*` for example".into()),
    }
}

async fn publish(topics: &Topics, game: &str) -> Result<(), Box<dyn std::error::Error>> {
    let topic = format!("scores/{game}");
    let mut score = Score { home: 0, guests: 0, minute: 0 };
    loop {
        score.minute += 1;
        match score.minute % 7 {
            3 => score.home += 1,
            5 => score.guests += 1,
            _ => {}
        }
        topics.publish(&topic, &score)?;
        let readers = topics.subscribers(&topic)?.len();
        println!("{topic}: {}:{} after {} minutes, {readers} readers", score.home, score.guests, score.minute);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn read(topics: &Topics, pattern: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut scores = topics.subscribe::<Score>(pattern, SubscribeOptions::default())?;
    println!("waiting for {pattern}");
    while let Some(item) = scores.next().await {
        let Score { home, guests, minute } = item.value;
        let when = if item.retained { " (from before)" } else { "" };
        println!("{}: {home}:{guests} after {minute} minutes{when}, says {}", item.topic, item.publisher.short());
    }
    Ok(())
}
