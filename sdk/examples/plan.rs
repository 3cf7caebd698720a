//! A party plan that several people edit, together and alone.
//!
//! ```text
//! cargo run -p peerflock --features documents --example plan -- ann.plan
//! cargo run -p peerflock --features documents --example plan -- bob.plan
//! ```
//! Type `cake` to add something, `- 2` to strike out the second line, `quit` to stop. Each keeps the plan in a file of its own: stop one,
//! edit alone, start it again; what was written meanwhile arrives from whoever has it.
#![allow(clippy::print_stdout, reason = "the terminal is its face")]

use std::io::BufRead;

use peerflock::PeerMesh;
use peerflock::service::documents::yrs::{Array, Out, ReadTxn, WriteTxn};
use peerflock::service::documents::{Document, Documents, EditError};

const LIST: &str = "to bring";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("say in which file to keep the plan")?;
    let mesh = PeerMesh::named("peerflock party plan").start().await?;
    let mut plan = Documents::join(&mesh)?.open("plan", Some(path.into()))?;
    let mut lines = typed();
    show(&plan)?;
    loop {
        tokio::select! {
            biased;
            line = lines.recv() => match line.as_deref().map(str::trim) {
                None | Some("quit") => break,
                Some("") => {}
                Some(line) => if let Err(error) = apply(&plan, line) {
                    println!("{error}");
                },
            },
            there = plan.changed() => {
                if !there {
                    break;
                }
                show(&plan)?;
            }
        }
    }
    plan.save()?;
    drop(plan);
    mesh.leave().await;
    Ok(())
}

/// Lines from the terminal, read by a thread that ends with the program.
fn typed() -> tokio::sync::mpsc::Receiver<String> {
    let (lines, typed) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    typed
}

fn apply(plan: &Document, line: &str) -> Result<(), EditError> {
    plan.edit(|txn| {
        let list = txn.get_or_insert_array(LIST);
        let struck = line.strip_prefix('-').and_then(|number| number.trim().parse::<u32>().ok());
        match struck.and_then(|number| number.checked_sub(1)) {
            Some(index) if index < list.len(txn) => list.remove(txn, index),
            Some(_) => {}
            None => {
                list.push_back(txn, line);
            }
        }
    })
}

fn show(plan: &Document) -> Result<(), EditError> {
    let items: Vec<String> = plan.read(|txn| {
        let list = txn.get_array(LIST);
        let text = |item: Out| item.cast::<String>().unwrap_or_default();
        list.map(|list| list.iter(txn).map(text).collect()).unwrap_or_default()
    })?;
    println!("--- to bring:");
    for (number, item) in (1..).zip(items) {
        println!("{number}. {item}");
    }
    Ok(())
}
