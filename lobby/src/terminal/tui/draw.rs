//! How the terminal's lobby looks.

use std::time::Instant;

use peerflock_lobby::RoomMember;
use peerflock_lobby::browse::round_trip_words;
use peerflock_lobby::chat::{Line as Said, LineTo};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, TableState, Wrap};
use unicode_segmentation::UnicodeSegmentation;

use super::super::list::{HEAD, columns};
use super::state::{Lobby, Prompt, Visit};

/// What matters: the lobby's sun.
const SUN: Color = Color::Rgb(255, 182, 107);
/// What is well.
const GOOD: Color = Color::Rgb(130, 229, 176);
/// What went wrong.
const ALARM: Color = Color::Rgb(255, 139, 126);
/// The members' colors, the same as in the window.
const MEMBERS: [Color; 8] = [
    Color::Rgb(96, 196, 245),
    Color::Rgb(245, 230, 100),
    Color::Rgb(52, 205, 155),
    Color::Rgb(238, 150, 205),
    Color::Rgb(240, 243, 248),
    Color::Rgb(248, 172, 40),
    Color::Rgb(124, 156, 255),
    Color::Rgb(248, 120, 72),
];

pub(super) fn draw(frame: &mut Frame<'_>, lobby: &Lobby) {
    let [board, notice, foot] =
        Layout::vertical([Constraint::Min(3), Constraint::Length(1), Constraint::Length(1)]).areas(frame.area());
    let keys = match &lobby.visit {
        Some(visit) => {
            room(frame, board, visit);
            " Enter says  F2 ready  F3 start, stop or join  F4 invite  Esc leaves"
        }
        None => {
            list(frame, board, lobby);
            " Enter joins  n new  m quick match  i invitation  / search  s free seats  o open  f favorite  q ends"
        }
    };
    if let Some((words, _)) = &lobby.notice {
        frame.render_widget(Paragraph::new(format!(" {words}")).fg(ALARM), notice);
    }
    frame.render_widget(Paragraph::new(keys).dim(), foot);
    if lobby.is_entering() {
        front(frame, "Knocking at the door...", Vec::new());
    } else if let Some(prompt) = &lobby.prompt {
        question(frame, prompt);
    }
}

fn list(frame: &mut Frame<'_>, area: Rect, lobby: &Lobby) {
    let title = Line::from(" Peerflock: rooms on this network ").fg(SUN).bold();
    let shown = lobby.shown();
    let mut block = Block::bordered().border_style(Style::new().dim()).title(title);
    if lobby.filter.is_on() {
        let hidden = lobby.found.len() - shown.len();
        block = block.title_bottom(Line::from(format!(" {:?}, {hidden} not shown; Esc shows all ", lobby.filter.search)).dim());
    }
    if shown.is_empty() {
        let words = if lobby.found.is_empty() {
            "\nNo rooms here yet. Press n to open one; others on this network will see it."
        } else {
            "\nNo room is like that."
        };
        return frame.render_widget(Paragraph::new(words).centered().block(block), area);
    }
    let widths = [
        Constraint::Length(2),
        Constraint::Fill(3),
        Constraint::Fill(3),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(7),
    ];
    let rows = shown.iter().map(|room| {
        let star = if lobby.settings.favorites.contains(&room.name) { "♥".to_owned() } else { String::new() };
        let row = Row::new(std::iter::once(star).chain(columns(room)));
        if room.is_full() { row.dim() } else { row }
    });
    let head = Row::new(std::iter::once("").chain(HEAD)).style(Style::new().add_modifier(Modifier::BOLD).fg(SUN));
    let table = Table::new(rows, widths).header(head).column_spacing(2).block(block);
    let table = table.row_highlight_style(Style::new().bg(Color::Rgb(70, 55, 110)).bold());
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(Some(lobby.chosen)));
}

fn room(frame: &mut Frame<'_>, area: Rect, visit: &Visit) {
    let [side, talk] = Layout::horizontal([Constraint::Length(30), Constraint::Min(20)]).areas(area);
    let [people, status] = Layout::vertical([Constraint::Min(3), Constraint::Length(4)]).areas(side);
    let members = visit.room.members();
    let seats = visit.room.facts().map_or_else(String::new, |facts| {
        format!("{} of {}", members.iter().filter(|member| member.seated).count(), facts.players_max)
    });
    let name = peerflock_lobby::text::clean_name(visit.room.name());
    let block = Block::bordered().border_style(Style::new().dim()).title(Line::from(format!(" {name} ")).fg(SUN).bold());
    let block = block.title_bottom(Line::from(format!(" {seats} ")).dim());
    frame.render_widget(Paragraph::new(members.iter().map(member).collect::<Vec<_>>()).block(block), people);

    let block = Block::bordered().border_style(Style::new().dim());
    frame.render_widget(Paragraph::new(standing(visit, &members)).wrap(Wrap { trim: true }).block(block), status);

    let [log, line] = Layout::vertical([Constraint::Min(3), Constraint::Length(3)]).areas(talk);
    let block = Block::bordered().border_style(Style::new().dim()).title(Line::from(" Chat ").fg(SUN).bold());
    let inner = block.inner(log);
    let lines: Vec<Line<'_>> = visit.room.chat().lines().flat_map(|line| folded(said(line), inner.width.into())).collect();
    // The newest line is in view.
    let first = lines.len().saturating_sub(inner.height.into());
    frame.render_widget(Paragraph::new(lines[first..].to_vec()).block(block), log);

    let inner = Block::bordered().border_style(Style::new().fg(SUN));
    let width = usize::from(inner.inner(line).width.saturating_sub(1));
    let text = tail(&visit.line, width);
    let cursor = line.x + 1 + Line::from(text.as_str()).width() as u16;
    frame.render_widget(Paragraph::new(text).block(inner), line);
    frame.set_cursor_position((cursor, line.y + 1));
    if let Some(code) = &visit.code {
        let lines = code.lines().into_iter().map(Line::from).collect();
        front(frame, "Let a camera read it, or run `cargo lobby -- join` with the invitation", lines);
    }
}

fn member(member: &RoomMember) -> Line<'static> {
    let color = MEMBERS[usize::from(member.color) % MEMBERS.len()];
    let (what, shade) = match member {
        member if member.playing => ("in the game", SUN),
        member if !member.seated => ("watching", Color::Gray),
        member if member.ready => ("ready", GOOD),
        _ => ("not ready", Color::Gray),
    };
    let far = if member.me {
        "you".to_owned()
    } else {
        member.round_trip.map_or_else(String::new, |time| round_trip_words(Some(time)))
    };
    let owner = if member.owner { "*" } else { " " };
    Line::from(vec![
        Span::raw(owner).fg(SUN),
        Span::raw(format!("{} ", member.name)).fg(color).bold(),
        Span::raw(what).fg(shade),
        Span::raw(format!(" {far}")).dim(),
    ])
}

/// What goes on, or what to do next.
fn standing(visit: &Visit, members: &[RoomMember]) -> Line<'static> {
    if let Some(left) = visit.room.countdown(Instant::now()) {
        return Line::from(format!("The game starts in {} s. F3 stops it.", left.as_millis().div_ceil(1_000))).fg(SUN).bold();
    }
    if !visit.status.is_empty() {
        return Line::from(visit.status.clone());
    }
    if visit.room.can_join_running() && !visit.game.is_on() {
        return Line::from("A game is under way. F3 joins it.").fg(SUN);
    }
    let late = members.iter().filter(|member| !member.me && member.seated && !member.ready).count();
    match (late, members.len()) {
        (_, 1) => Line::from("You can start alone (F3), or wait for others."),
        (0, _) => Line::from("The others are ready. F3 starts."),
        (late, _) => Line::from(format!("{late} not ready yet.")),
    }
}

fn said(line: &Said) -> Line<'static> {
    let Some(speaker) = &line.speaker else { return Line::from(line.text.clone()).dim() };
    let to = match line.to {
        LineTo::All => "",
        LineTo::Team(_) => " (to the team)",
        LineTo::One => " (to you alone)",
    };
    let color = MEMBERS[usize::from(speaker.color) % MEMBERS.len()];
    let text = Span::raw(line.text.clone());
    let text = if line.mentions_me { text.bold() } else { text };
    Line::from(vec![Span::raw(format!("{}{to}: ", speaker.name)).fg(color).bold(), text])
}

/// The line in lines of this width, broken between words where that can be, and between letters otherwise.
fn folded(line: Line<'static>, width: usize) -> Vec<Line<'static>> {
    let (width, mut lines, mut used) = (width.max(1), vec![Line::default()], 0);
    for span in line.spans {
        for word in span.content.split_word_bounds() {
            let word_width = Span::raw(word).width();
            if used + word_width > width && used > 0 {
                lines.push(Line::default());
                used = 0;
            }
            if used == 0 && lines.len() > 1 && word.trim().is_empty() {
                continue;
            }
            if word_width <= width {
                push(&mut lines, word.to_owned(), span.style);
                used += word_width;
                continue;
            }
            for letter in word.graphemes(true) {
                let letter_width = Span::raw(letter).width();
                if used + letter_width > width && used > 0 {
                    lines.push(Line::default());
                    used = 0;
                }
                push(&mut lines, letter.to_owned(), span.style);
                used += letter_width;
            }
        }
    }
    lines
}

fn push(lines: &mut [Line<'static>], text: String, style: Style) {
    if let Some(last) = lines.last_mut() {
        last.spans.push(Span::styled(text, style));
    }
}

fn question(frame: &mut Frame<'_>, prompt: &Prompt) {
    let typed = if prompt.ask.is_secret() { "*".repeat(prompt.typed.graphemes(true).count()) } else { prompt.typed.clone() };
    let mut lines = vec![Line::from(format!("> {}_", tail(&typed, 50))).bold()];
    if let Some(wrong) = &prompt.wrong {
        lines.push(Line::from(wrong.clone()).fg(ALARM));
    }
    lines.push(Line::from("Enter goes on, Esc goes back").dim());
    front(frame, &prompt.ask.words(), lines);
}

/// Something in front of everything.
fn front(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'static>>) {
    let area = frame.area();
    let inner = lines.iter().map(Line::width).chain([title.graphemes(true).count() + 2]).max().unwrap_or(0);
    let width = u16::try_from(inner).unwrap_or(u16::MAX).saturating_add(2).clamp(30, area.width.max(30)).min(area.width);
    let lines: Vec<Line<'_>> = lines.into_iter().flat_map(|line| folded(line, width.saturating_sub(2).into())).collect();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2).max(3).min(area.height);
    let text = Paragraph::new(lines);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().border_style(Style::new().fg(SUN)).title(Line::from(format!(" {title} ")).bold());
    frame.render_widget(Clear, place);
    frame.render_widget(text.block(block), place);
}

/// The end of a text that fits into so many letters.
fn tail(text: &str, width: usize) -> String {
    let letters: Vec<&str> = text.graphemes(true).collect();
    letters[letters.len().saturating_sub(width)..].concat()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use peerflock::Interface;
    use peerflock::resolve::Browser;
    use peerflock_lobby::Settings;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn picture(lobby: &Lobby) -> String {
        let mut terminal = Terminal::new(TestBackend::new(100, 40)).unwrap();
        terminal.draw(|frame| draw(frame, lobby)).unwrap();
        terminal.backend().to_string()
    }

    fn press(lobby: &mut Lobby, key: KeyCode) {
        lobby.press(KeyEvent::new(key, KeyModifiers::NONE));
    }

    #[test]
    fn every_screen_can_be_read() {
        let browser = Browser::start(Interface::Loopback).unwrap();
        let mut lobby = Lobby::new("Ada", Some(Interface::Loopback), Vec::new(), Settings::default(), browser);
        assert!(picture(&lobby).contains("Press n to open one"));
        press(&mut lobby, KeyCode::Char('n'));
        assert!(picture(&lobby).contains("> Ada's room_"));
        press(&mut lobby, KeyCode::Enter);
        "dusk".chars().for_each(|letter| press(&mut lobby, KeyCode::Char(letter)));
        let shown = picture(&lobby);
        assert!(shown.contains("> ****_") && !shown.contains("dusk"), "{shown}");
        press(&mut lobby, KeyCode::Enter);
        let started = Instant::now();
        while lobby.visit.as_ref().is_none_or(|visit| visit.room.facts().is_none() || !visit.room.members()[0].seated) {
            assert!(started.elapsed() < Duration::from_secs(20), "the room opens");
            lobby.pass(Instant::now());
            std::thread::sleep(Duration::from_millis(10));
        }
        "hello".chars().for_each(|letter| press(&mut lobby, KeyCode::Char(letter)));
        let shown = picture(&lobby);
        for word in ["Ada's room", "*Ada not ready you", "1 of 8", "You can start alone", "│hello", "F3 start"] {
            assert!(shown.contains(word), "{word} is missing in\n{shown}");
        }
        press(&mut lobby, KeyCode::F(4));
        assert!(picture(&lobby).contains("███"), "a code for a camera");
        lobby.leave();
    }

    #[test]
    fn long_lines_are_folded_between_words() {
        let shown = |text: &str, width| -> Vec<String> {
            folded(Line::from(text.to_owned()), width).iter().map(ToString::to_string).collect()
        };
        assert_eq!(shown("starlings turn as one", 10), ["starlings ", "turn as ", "one"]);
        assert_eq!(shown("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(shown("", 4), [""]);
        assert_eq!(shown("日本語", 4), ["日本", "語"]);
    }

    #[test]
    fn nothing_is_too_small_to_draw_into() {
        let browser = Browser::start(Interface::Loopback).unwrap();
        let mut lobby = Lobby::new("Ada", Some(Interface::Loopback), Vec::new(), Settings::default(), browser);
        press(&mut lobby, KeyCode::Char('i'));
        for (width, height) in [(1, 1), (5, 3), (20, 4), (40, 10)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &lobby)).unwrap();
        }
    }
}
