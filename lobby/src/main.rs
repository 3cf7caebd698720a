//! The lobby browser: the rooms and games on this network, in a window or in the terminal. See `--help`.

mod app;
mod cli;
mod display;
mod terminal;

use std::process::ExitCode;

use bevy::app::AppExit;
use clap::Parser;
use peerflock_lobby::{Settings, text};

use cli::Cli;

fn main() -> ExitCode {
    let Cli { command, mut common, tui, screenshot, seconds } = Cli::parse();
    let settings = Settings::load();
    let named = [common.player.take(), Some(settings.player.clone()), std::env::var("USER").ok(), Some("Player".to_owned())];
    let player =
        named.into_iter().flatten().map(|name| text::clean_name(&name)).find(|name| !name.is_empty()).unwrap_or_default();
    common.player = Some(player.clone());
    if let Some(command) = command {
        return terminal::run(command, &common);
    }
    if tui {
        return terminal::lobby(&common, settings);
    }
    let picture = screenshot.is_some();
    if let Err(why) = display::there_is_one() {
        return terminal::instead_of_window(&why, picture, &common);
    }
    let options = app::WindowOptions {
        player,
        settings,
        interface: common.interface.clone(),
        directories: common.directories.clone(),
        screenshot,
        stay: seconds,
    };
    match app::run(options) {
        Ok(AppExit::Success) => ExitCode::SUCCESS,
        Ok(AppExit::Error(code)) => ExitCode::from(code.get()),
        Err(why) => terminal::instead_of_window(&why, picture, &common),
    }
}
