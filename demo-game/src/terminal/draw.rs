//! What the terminal shows: the sky, the score, the talk and the mesh.

use bevy::math::Vec2;
use bevy::prelude::Resource;
use peerflock::{Member, Metrics};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::canvas::{Canvas, Points};
use ratatui::widgets::{Block, Paragraph, Row, Table, Wrap};

use crate::chat::Feed;
use crate::mesh_view::rate;
use crate::palette;
use crate::players::Players;
use crate::round::Round;
use crate::world::SKY;

/// Members and figures of the mesh, once there are any.
#[derive(Debug, Default, Resource)]
pub(super) struct Measures(pub(super) Option<(Vec<Member>, Metrics)>);

/// A bird or a leader in the sky.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dot {
    pub(super) place: Vec2,
    pub(super) color: u8,
    pub(super) leads: bool,
}

/// All there is to be shown.
pub(super) struct View<'a> {
    pub(super) players: &'a Players,
    pub(super) round: &'a Round,
    pub(super) feed: &'a Feed,
    pub(super) typing: Option<&'a str>,
    pub(super) measures: &'a Measures,
    pub(super) sky: Vec<Dot>,
}

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View<'_>) {
    let [main, keys] = Layout::vertical([Constraint::Min(8), Constraint::Length(1)]).areas(frame.area());
    let side = (main.width * 2 / 5).clamp(30, 54);
    let [left, right] = Layout::horizontal([Constraint::Min(10), Constraint::Length(side)]).areas(main);
    let [sky, talk] = Layout::vertical([Constraint::Percentage(68), Constraint::Min(4)]).areas(left);
    let scores = (view.players.len() as u16 + 3).max(5).min(main.height / 2);
    let [score, mesh] = Layout::vertical([Constraint::Length(scores), Constraint::Min(4)]).areas(right);
    draw_sky(frame, sky, view);
    draw_talk(frame, talk, view);
    draw_scores(frame, score, view);
    draw_mesh(frame, mesh, view);
    let help = match view.typing {
        Some(text) => Line::from(vec!["say: ".bold(), text.to_owned().into(), "▏".into()]),
        None => Line::from(" arrows or WASD steer · space straight on · enter chats · i invites · q quits").dim(),
    };
    frame.render_widget(Paragraph::new(help), keys);
}

/// Draws nothing but the invitation, without a frame around it.
pub(super) fn invitation(frame: &mut Frame<'_>, ticket: &str) {
    let text = format!("Others join with (i goes back to the game):\n\ncargo demo -- --join {ticket}");
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), frame.area());
}

fn draw_sky(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let title = if view.round.rests() {
        let winner =
            view.players.winner().map_or_else(|| "a draw".into(), |winner| format!("{} leads the largest flock", winner.name));
        format!(" Round {} is over: {winner} ", view.round.number)
    } else {
        format!(" Murmuration · round {} · {} left ", view.round.number, view.round.clock())
    };
    let canvas = Canvas::default()
        .block(Block::bordered().title(title))
        .marker(Marker::Braille)
        .x_bounds([f64::from(SKY.min.x), f64::from(SKY.max.x)])
        .y_bounds([f64::from(SKY.min.y), f64::from(SKY.max.y)])
        .paint(|canvas| {
            for dot in &view.sky {
                let place = (f64::from(dot.place.x), f64::from(dot.place.y));
                canvas.draw(&Points { coords: &[place], color: color(dot.color) });
            }
            for dot in view.sky.iter().filter(|dot| dot.leads) {
                canvas.print(f64::from(dot.place.x), f64::from(dot.place.y), Span::styled("◆", color(dot.color)));
            }
        });
    frame.render_widget(canvas, area);
}

fn draw_scores(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let most = view.players.ranking().first().map_or(1, |first| first.birds.max(1));
    let rows = view.players.ranking().into_iter().map(|player| {
        let mine = if player.me { Style::new().bold() } else { Style::new() };
        let bar = "█".repeat((player.birds * 12).div_ceil(most));
        let won = if player.wins > 0 { format!("{} won", player.wins) } else { String::new() };
        Row::new([
            Span::styled(player.name.clone(), mine.fg(color(player.color))),
            Span::styled(player.birds.to_string(), mine),
            Span::styled(bar, color(player.color)),
            Span::from(won).dim(),
        ])
    });
    let widths = [Constraint::Min(8), Constraint::Length(5), Constraint::Length(12), Constraint::Length(6)];
    let block = Block::bordered().title(format!(" {} birds ", view.players.birds()));
    frame.render_widget(Table::new(rows, widths).block(block), area);
}

fn draw_talk(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let lines: Vec<Line<'_>> = view
        .feed
        .iter()
        .rev()
        .take(area.height.saturating_sub(2).into())
        .rev()
        .map(|line| {
            let style = line.color.map_or(Style::new(), |of| Style::new().fg(color(of)));
            match &line.speaker {
                Some(speaker) => {
                    Line::from(vec![Span::styled(format!("{}: ", speaker.name), style), Span::from(line.text.clone())])
                }
                None => Line::styled(line.text.clone(), style.italic()),
            }
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Talk ")), area);
}

fn draw_mesh(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let Some((members, metrics)) = &view.measures.0 else {
        return frame.render_widget(Paragraph::new("looking for others …").block(Block::bordered().title(" Mesh ")), area);
    };
    let name = |peer| view.players.get(peer).map_or_else(|| peer.short(), |player| player.name.clone());
    let mut rows: Vec<Row<'_>> = vec![Row::new(["linked to", "round trip", "sent", "received", "lost"]).dim()];
    rows.extend(metrics.links.iter().map(|link| {
        Row::new([
            Span::styled(name(link.peer), view.players.get(link.peer).map_or(Color::Reset, |player| color(player.color))),
            Span::from(link.rtt.map_or_else(|| "–".into(), |rtt| format!("{:.1} ms", rtt.as_secs_f64() * 1e3))),
            Span::from(rate(link.bytes_sent_per_second)),
            Span::from(rate(link.bytes_received_per_second)),
            Span::from(format!("{:.1} %", link.loss * 100.0)),
        ])
    }));
    let widths =
        [Constraint::Min(8), Constraint::Length(10), Constraint::Length(10), Constraint::Length(10), Constraint::Length(6)];
    let block = Block::bordered().title(format!(" Mesh: {} members, no server ", members.len()));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [links, others] = Layout::vertical([Constraint::Length(rows.len() as u16 + 1), Constraint::Min(0)]).areas(inside);
    frame.render_widget(Table::new(rows, widths), links);
    let neighbors = members.iter().filter(|member| !member.me).map(|member| {
        let neighbors: Vec<String> = member.neighbors.iter().map(|peer| name(*peer)).collect();
        Line::from(format!("{} – {}", name(member.peer), neighbors.join(", "))).dim()
    });
    frame.render_widget(Paragraph::new(neighbors.collect::<Vec<_>>()), others);
}

/// A flock's color.
fn color(of: u8) -> Color {
    let [r, g, b] = palette::rgb(of);
    Color::Rgb(r, g, b)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn terminals_of_any_size_can_be_drawn_on() {
        let players = Players::with_birds(&[60, 72, 4, 9, 0]);
        let mut feed = Feed::default();
        for line in 0..50 {
            feed.notice(0.0, format!("line {line}"), Some(line));
        }
        let (round, measures) = (Round::first(90), Measures::default());
        for (width, height) in [(1, 1), (20, 6), (80, 24), (200, 60)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let sky = vec![Dot { place: Vec2::ZERO, color: 3, leads: true }, Dot { place: Vec2::NAN, color: 0, leads: false }];
            let view = View { players: &players, round: &round, feed: &feed, typing: Some("hi"), measures: &measures, sky };
            terminal.draw(|frame| draw(frame, &view)).unwrap();
            let shown: String = terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
            if width == 80 {
                for text in ["Player 1", "72", "round 1", "line 49", "say: hi"] {
                    assert!(shown.contains(text), "{text} is missing");
                }
            }
        }
    }
}
