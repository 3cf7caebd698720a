//! The lobby browser: the rooms and games on this network, in a window or in the terminal. See `--help`.

mod app;
mod cli;
mod display;
mod terminal;

use std::process::ExitCode;

use bevy::app::AppExit;
use clap::Parser;
use peerflock_lobby::text;

use cli::Cli;

fn main() -> ExitCode {
    let Cli { command, mut common, screenshot, seconds } = Cli::parse();
    common.player = text::clean_name(&common.player);
    if common.player.is_empty() {
        common.player = "Player".to_owned();
    }
    if let Some(command) = command {
        return terminal::run(command, &common);
    }
    let picture = screenshot.is_some();
    if let Err(why) = display::there_is_one() {
        return terminal::instead_of_window(&why, picture, &common);
    }
    let options =
        app::WindowOptions { player: common.player.clone(), interface: common.interface.clone(), screenshot, stay: seconds };
    match app::run(options) {
        Ok(AppExit::Success) => ExitCode::SUCCESS,
        Ok(AppExit::Error(code)) => ExitCode::from(code.get()),
        Err(why) => terminal::instead_of_window(&why, picture, &common),
    }
}
