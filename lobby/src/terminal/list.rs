//! What there is, as a table or as JSON.

mod live;

use std::io::IsTerminal;
use std::thread::sleep;
use std::time::{Duration, Instant};

use peerflock::resolve::Browser;
use peerflock_lobby::browse::{self, round_trip_words};
use peerflock_lobby::{Filter, RoomInfo, Stage};
use unicode_segmentation::UnicodeSegmentation;

use super::{Trouble, print};
use crate::cli::Common;

/// How often to look when watching.
const EVERY: Duration = Duration::from_millis(500);
/// What the columns are called.
pub(super) const HEAD: [&str; 5] = ["ROOM", "GAME", "PLAYERS", "ROUND TRIP", "DOOR"];

/// Looks for so long, then lists.
pub(super) fn once(common: &Common, how_long: Duration, json: bool, which: &Filter) -> Result<(), Trouble> {
    let browser = browser(common)?;
    sleep(how_long);
    show(&rooms(&browser, which), json);
    Ok(())
}

/// Lists whenever something has changed: in place where there is a terminal to draw on, a line of JSON or a table otherwise.
pub(super) fn again(common: &Common, how_long: Option<Duration>, json: bool, which: &Filter) -> Result<(), Trouble> {
    let browser = browser(common)?;
    if !json && std::io::stdout().is_terminal() {
        return live::table(how_long, || rooms(&browser, which));
    }
    let started = Instant::now();
    let mut shown: Option<Vec<RoomInfo>> = None;
    while how_long.is_none_or(|how_long| started.elapsed() < how_long) {
        sleep(EVERY);
        let listed = rooms(&browser, which);
        // A round trip that is measured anew is nothing new.
        let mut rooms = listed.clone();
        rooms.iter_mut().for_each(|room| room.round_trip = room.round_trip.map(|_| Duration::ZERO));
        if shown.as_ref() != Some(&rooms) {
            show(&listed, json);
            shown = Some(rooms);
        }
    }
    Ok(())
}

/// Looks around on the network that was chosen.
pub(super) fn browser(common: &Common) -> Result<Browser, Trouble> {
    browse::browser(common.interface.clone(), &common.directories).map_err(Trouble::failed)
}

fn rooms(browser: &Browser, which: &Filter) -> Vec<RoomInfo> {
    browser.snapshot().iter().map(RoomInfo::of).filter(|room| which.fits(room)).collect()
}

fn show(rooms: &[RoomInfo], json: bool) {
    if json {
        return print::json(&rooms);
    }
    if rooms.is_empty() {
        return print::line(
            "No rooms here yet. Open one with `cargo lobby -- create --name NAME`; others on this network will see it.",
        );
    }
    for line in table(rooms) {
        print::line(&line);
    }
}

fn table(rooms: &[RoomInfo]) -> Vec<String> {
    let rows: Vec<[String; 5]> = std::iter::once(HEAD.map(str::to_owned)).chain(rooms.iter().map(columns)).collect();
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(letters(cell));
        }
    }
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - letters(cell))));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

pub(super) fn columns(room: &RoomInfo) -> [String; 5] {
    [
        room.name.clone(),
        match (room.stage, room.mode.as_str()) {
            (Stage::Gathering, "") => format!("{} (in the lobby)", room.game),
            (Stage::Gathering, mode) => format!("{}, {mode} (in the lobby)", room.game),
            (Stage::Playing, _) => format!("{} (playing)", room.game),
        },
        if room.players_max == 0 { room.players.to_string() } else { format!("{} of {}", room.players, room.players_max) },
        round_trip_words(room.round_trip),
        if room.locked { "locked" } else { "open" }.to_owned(),
    ]
}

fn letters(text: &str) -> usize {
    text.graphemes(true).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let room = |name: &str, locked| RoomInfo {
            name: name.into(),
            game: "Murmuration".into(),
            version: String::new(),
            mode: String::new(),
            stage: Stage::Gathering,
            players: 3,
            players_max: 8,
            locked,
            round_trip: Some(Duration::from_micros(400)),
            mesh: peerflock::MeshId([0; 32]),
        };
        let table = table(&[room("Zoë", true), room("A longer name", false)]);
        let at = |line: &str, word: &str| letters(&line[..line.find(word).unwrap()]);
        assert_eq!(at(&table[0], "DOOR"), at(&table[1], "locked"));
        assert_eq!(at(&table[0], "DOOR"), at(&table[2], "open"));
        assert_eq!(at(&table[0], "PLAYERS"), at(&table[1], "3 of 8"));
    }
}
