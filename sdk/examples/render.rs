//! A picture that all members compute.
//!
//! ```text
//! cargo run --release -p peerflock --example render            (in as many terminals as you like)
//! cargo run --release -p peerflock --example render -- draw    (in the last one)
//! ```
//! The last one submits each row of the picture as a task, to three members each with `draw --sure`, and shows the picture as it grows. All
//! compute. End some of them on the way, and nothing is lost. `PEERFLOCK_INTERFACE=lo` keeps it on this machine.

#![allow(clippy::print_stdout, reason = "an example with a terminal for a face")]

use std::time::Duration;

use peerflock::PeerMesh;
use peerflock::service::work::{Functions, Job, JobResult, Task, Work, WorkError};

const WIDTH: u32 = 96;
const HEIGHT: u32 = 40;
/// From empty to inside the set.
const SHADES: &[u8] = b" .:-=+*#%@";
const STEPS_MAX: u32 = 20_000;
/// What a terminal understands: an empty one, back to its beginning, and nothing more in this line.
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";
const LINE_END: &str = "\x1b[K";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let says = |word: &str| words.iter().any(|said| said == word);
    let mesh = PeerMesh::named("render").start().await?;
    let places = std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(1));
    let work = Work::join(&mesh, Functions::new(places).register("mandelbrot row", row))?;
    if !says("draw") {
        println!("{} helps with {places} places; start one with the word `draw`", mesh.id().short());
        while mesh.next_event().await.is_some() {}
        return Ok(());
    }
    // Who is here has to say what it can.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let copies = if says("--sure") { 3 } else { 1 };
    let mut rows = Vec::new();
    for y in 0..HEIGHT {
        let task = Task::new("mandelbrot row", y.to_le_bytes().to_vec()).within(Duration::from_secs(120)).copies(copies);
        rows.push((y, work.submit(task)?));
    }
    let mut picture = vec![vec![b' '; WIDTH as usize]; HEIGHT as usize];
    let mut by = std::collections::BTreeMap::<_, u32>::new();
    let mut notes = Vec::new();
    print!("{CLEAR}");
    for (y, pending) in rows {
        match pending.await {
            Ok(done) => {
                picture[y as usize] = done.output.to_vec();
                done.by.iter().for_each(|peer| *by.entry(peer.short()).or_default() += 1);
                notes.extend(done.odd.iter().map(|peer| format!("{} says something else about row {y}", peer.short())));
            }
            Err(WorkError::Closed) => break,
            Err(error) => notes.push(format!("row {y}: {error}")),
        }
        print!("{HOME}");
        picture.iter().for_each(|row| println!("{}", String::from_utf8_lossy(row)));
        let by: Vec<String> = by.iter().map(|(peer, rows)| format!("{rows} by {peer}")).collect();
        println!("{} of {HEIGHT} rows: {}{LINE_END}", y + 1, by.join(", "));
        notes.iter().for_each(|note| println!("{note}{LINE_END}"));
    }
    mesh.leave().await;
    Ok(())
}

/// One row of the Mandelbrot set: whole numbers only, so that it is the same on every machine.
fn row(job: &Job) -> JobResult {
    let y = u32::from_le_bytes(job.input().try_into().map_err(|_| "a row's number expected")?);
    let mut shades = Vec::new();
    for x in 0..WIDTH {
        // Fixed point, with 28 bits after it.
        let one = 1_i64 << 28;
        let (re, im) = (i64::from(x) * 3 * one / i64::from(WIDTH) - 2 * one, i64::from(y) * 2 * one / i64::from(HEIGHT) - one);
        let (mut a, mut b, mut steps) = (0_i64, 0_i64, 0);
        while steps < STEPS_MAX && (a * a + b * b) >> 28 < 4 * one {
            (a, b) = (((a * a - b * b) >> 28) + re, ((2 * a * b) >> 28) + im);
            steps += 1;
        }
        let shade = if steps == STEPS_MAX { SHADES.len() - 1 } else { (steps as usize / 3).min(SHADES.len() - 2) };
        shades.push(SHADES[shade]);
        if x % 16 == 0 && !job.still_at_it() {
            break;
        }
    }
    Ok(shades)
}
