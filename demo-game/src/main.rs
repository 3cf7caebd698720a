//! *Murmuration*: lead a flock of starlings over a mesh of players. There is no server.
//!
//! Every player simulates its own birds and sends where they are to a handful of neighbors; everyone sees everyone's. Brush a
//! smaller flock and its birds come over: their *ownership* passes from one peer to another. Whoever leaves leaves its birds
//! behind, and the others adopt them.
//!
//! `cargo demo` opens a window and starts three bots as processes of their own; `cargo demo -- --help` tells the rest.
//!
//! # Where is what
//! | module | what |
//! | --- | --- |
//! | `world`, `game` | what is shared; the game put together, without a face |
//! | `flock`, `boids` | our own birds: when they hatch, how they fly |
//! | `trade`, `brush` | birds that change sides: when, and by which rules |
//! | `round`, `players`, `chat` | the clock, the score, what is said |
//! | `window`, `terminal` | the faces, and what belongs to them: `sky`, `birds_view`, `hud`, `chat_box`, `mesh_view`, `input` |
//! | `launcher`, `child`, `pipe` | processes: the one that starts, the one that is started, what they tell each other |
//! | `bot` | who plays without hands |
//! | `measure`, `report` | what a headless run finds out |

#![allow(elided_lifetimes_in_paths, reason = "systems say `Res<T>` and `Query<&T>`, as everywhere in Bevy")]

use std::process::ExitCode;

use clap::Parser;

mod birds_view;
mod boids;
mod bot;
mod brush;
mod canvas;
mod chat;
mod chat_box;
mod child;
mod cli;
mod dice;
mod ending;
mod flock;
mod game;
mod hud;
mod input;
mod launcher;
mod look;
mod measure;
mod mesh_view;
mod palette;
mod pipe;
mod player;
mod players;
mod report;
mod round;
mod screenshot;
mod settings;
mod sky;
mod spectator;
mod tags;
mod terminal;
mod trade;
mod window;
mod world;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if cli.child {
        return child::run();
    }
    let cli = match cli.checked() {
        Ok(cli) => cli,
        Err(error) => {
            ending::say(&error);
            return ending::NOT_ADMITTED.into();
        }
    };
    if cli.headless {
        return launcher::fly(&cli);
    }
    if cli.terminal {
        return terminal::play(&cli, None);
    }
    match window::play(&cli) {
        Ok(code) => code,
        Err(window::NoWindow(reason)) if cli.screenshot.is_some() => {
            ending::fail(&format!("no window to take a picture of, because {reason}"))
        }
        Err(window::NoWindow(reason)) => terminal::play(&cli, Some(&reason)),
    }
}
