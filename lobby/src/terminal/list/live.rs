//! The list of rooms, drawn in place until somebody has seen enough.

use std::io;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use peerflock_lobby::{RoomInfo, Stage};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table};

use super::{HEAD, Trouble, columns};

/// How often the table is drawn.
const FRAME: Duration = Duration::from_millis(250);
/// The color of what matters: the lobby's sun.
const SUN: Color = Color::Rgb(255, 182, 107);
/// Games that are being played.
const PLAYING: Color = Color::Rgb(130, 229, 176);

/// Draws `rooms` until `q`, Esc, Ctrl+C, or the end of `how_long`.
pub(super) fn table(how_long: Option<Duration>, rooms: impl Fn() -> Vec<RoomInfo>) -> Result<(), Trouble> {
    let mut terminal = ratatui::try_init().map_err(Trouble::failed)?;
    let outcome = run(&mut terminal, how_long, rooms);
    ratatui::restore();
    outcome.map_err(Trouble::failed)
}

fn run(terminal: &mut ratatui::DefaultTerminal, how_long: Option<Duration>, rooms: impl Fn() -> Vec<RoomInfo>) -> io::Result<()> {
    let started = Instant::now();
    while how_long.is_none_or(|how_long| started.elapsed() < how_long) {
        let rooms = rooms();
        terminal.draw(|frame| draw(frame, &rooms))?;
        if event::poll(FRAME)? && is_enough(&event::read()?) {
            break;
        }
    }
    Ok(())
}

fn is_enough(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

fn draw(frame: &mut Frame<'_>, rooms: &[RoomInfo]) {
    let [board, foot] = Layout::vertical([Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    let block =
        Block::bordered().border_style(Style::new().dim()).title(Line::from(" Peerflock: rooms on this network ").fg(SUN).bold());
    if rooms.is_empty() {
        let empty = Paragraph::new("\nNo rooms here yet. Open one; others on this network will see it.").centered().block(block);
        frame.render_widget(empty, board);
    } else {
        let widths =
            [Constraint::Fill(3), Constraint::Fill(3), Constraint::Length(9), Constraint::Length(10), Constraint::Length(7)];
        let rows = rooms.iter().map(|room| {
            let style = match room.stage {
                Stage::Playing => Style::new().fg(PLAYING),
                Stage::Gathering => Style::new(),
            };
            Row::new(columns(room)).style(if room.is_full() { style.dim() } else { style })
        });
        let head = Row::new(HEAD).style(Style::new().add_modifier(Modifier::BOLD).fg(SUN));
        frame.render_widget(Table::new(rows, widths).header(head).column_spacing(2).block(block), board);
    }
    frame.render_widget(Paragraph::new(" q ends. Join with `cargo lobby -- join NAME`.").dim(), foot);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn drawn(rooms: &[RoomInfo]) -> String {
        let mut terminal = Terminal::new(TestBackend::new(90, 8)).unwrap();
        terminal.draw(|frame| draw(frame, rooms)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn rooms_are_shown_and_an_empty_list_helps() {
        assert!(drawn(&[]).contains("No rooms here yet. Open one"));
        let room = RoomInfo {
            name: "Friday night".into(),
            game: "Murmuration".into(),
            version: String::new(),
            mode: String::new(),
            stage: Stage::Gathering,
            players: 2,
            players_max: 8,
            locked: true,
            round_trip: None,
            mesh: peerflock::MeshId([0; 32]),
        };
        let picture = drawn(&[room]);
        for word in ["Friday night", "in the lobby", "2 of 8", "locked"] {
            assert!(picture.contains(word), "{word} is missing in\n{picture}");
        }
    }
}
