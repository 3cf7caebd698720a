//! F3: the mesh itself. Who is linked to whom, and what the links carry.

use std::f32::consts::TAU;

use bevy::clipboard::Clipboard;
use bevy::prelude::*;
use bevy_peerflock::prelude::*;
use peerflock::{Member, Metrics};

use crate::chat::Feed;
use crate::look::{FAINT, Fonts, INK, flock_color, panel};
use crate::players::Players;

/// How often it is drawn anew, in seconds.
const DRAW_EVERY: f32 = 0.5;
/// Size of the graph, in pixels.
const GRAPH: Vec2 = Vec2::new(376.0, 236.0);
/// Most members drawn.
const DOTS_MAX: usize = 32;
/// Most links written out; no peer holds more unless it was told to.
const ROWS_MAX: usize = 12;
/// Widths of the columns of the table, in pixels.
const COLUMNS: [f32; 5] = [112.0, 70.0, 70.0, 70.0, 54.0];

pub(crate) struct MeshViewPlugin {
    /// Whether it is there from the start.
    pub(crate) shown: bool,
}

impl Plugin for MeshViewPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(View { shown: self.shown, drawn: f32::MAX })
            .add_systems(Update, (toggle, invite, draw.run_if(resource_exists::<MeshHandle>)).chain());
    }
}

#[derive(Resource)]
struct View {
    shown: bool,
    /// Seconds since it was drawn.
    drawn: f32,
}

#[derive(Component)]
struct MeshPanel;

fn toggle(
    mut commands: Commands,
    keys: Res<ButtonInput<KeyCode>>,
    mut view: ResMut<View>,
    panels: Query<Entity, With<MeshPanel>>,
) {
    if keys.just_pressed(KeyCode::F3) {
        *view = View { shown: !view.shown, drawn: f32::MAX };
        panels.iter().for_each(|panel| commands.entity(panel).despawn());
    }
}

fn invite(
    keys: Res<ButtonInput<KeyCode>>,
    time: Res<Time>,
    mesh: Option<Res<MeshHandle>>,
    mut clipboard: ResMut<Clipboard>,
    mut feed: ResMut<Feed>,
) {
    let Some(mesh) = mesh.filter(|_| keys.just_pressed(KeyCode::F4)) else { return };
    let text = match clipboard.set_text(mesh.ticket().to_string()) {
        Ok(()) => "The invitation is copied: others start with --join and paste it".into(),
        Err(error) => format!("The invitation could not be copied ({error:?}); it stands where the game was started"),
    };
    feed.notice(time.elapsed_secs_f64(), text, None);
}

fn draw(
    mut commands: Commands,
    time: Res<Time>,
    mut view: ResMut<View>,
    mesh: Res<MeshHandle>,
    players: Res<Players>,
    fonts: Res<Fonts>,
    panels: Query<Entity, With<MeshPanel>>,
) {
    view.drawn += time.delta_secs();
    if !view.shown || view.drawn < DRAW_EVERY {
        return;
    }
    view.drawn = 0.0;
    panels.iter().for_each(|panel| commands.entity(panel).despawn());
    let (members, metrics) = (mesh.members(), mesh.metrics());
    let node = Node {
        position_type: PositionType::Absolute,
        right: px(16),
        top: px(16),
        padding: px(14).all(),
        flex_direction: FlexDirection::Column,
        row_gap: px(2),
        ..default()
    };
    commands.spawn((MeshPanel, panel(node))).with_children(|panel| {
        let title = format!("{}   ·   {} members, no server", mesh.name(), members.len());
        panel.spawn(fonts.bold(title, 14.0, INK));
        panel.spawn((Node { width: px(GRAPH.x), height: px(GRAPH.y), ..default() }, Pickable::IGNORE)).with_children(|graph| {
            draw_graph(graph, &fonts, &players, &members);
        });
        write_links(panel, &fonts, &players, &metrics);
        panel.spawn((
            Node { margin: px(8).top(), ..default() },
            fonts.text("F4 copies the invitation for others: --join TICKET", 11.5, FAINT),
        ));
    });
}

/// Members in a circle, links as lines between them; ours are brighter.
fn draw_graph(graph: &mut ChildSpawnerCommands, fonts: &Fonts, players: &Players, members: &[Member]) {
    let shown = &members[..members.len().min(DOTS_MAX)];
    let place = |index: usize| {
        let angle = TAU * (index as f32 / shown.len() as f32) - TAU / 4.0;
        GRAPH / 2.0 + Vec2::from_angle(angle) * (GRAPH / 2.0 - Vec2::new(62.0, 34.0))
    };
    let mut labels = Vec::new();
    for (index, member) in shown.iter().enumerate() {
        for (other, peer) in shown.iter().enumerate().skip(index + 1) {
            // A link counts if either end says so: the news of it travels, too.
            if member.neighbors.contains(&peer.peer) || peer.neighbors.contains(&member.peer) {
                let ours = member.me || peer.me;
                let rtt = if member.me { peer.rtt } else { member.rtt }.filter(|_| ours);
                let color = if ours { Color::srgba(1.0, 0.86, 0.62, 0.85) } else { Color::srgba(1.0, 1.0, 1.0, 0.30) };
                line(graph, place(index), place(other), if ours { 2.0 } else { 1.2 }, color);
                if let Some(rtt) = rtt {
                    // Nearer to the others than to us: in the middle, lines cross.
                    let (us, them) = if member.me { (index, other) } else { (other, index) };
                    let at = place(us).lerp(place(them), 0.62);
                    labels.push((at, format!("{:.1} ms", rtt.as_secs_f64() * 1e3)));
                }
            }
        }
    }
    for (at, text) in labels {
        label(graph, fonts, at, text, 10.5, INK, Color::srgba(0.10, 0.09, 0.20, 0.92));
    }
    for (index, member) in shown.iter().enumerate() {
        let player = players.get(member.peer);
        let color = player.map_or(INK, |player| flock_color(player.color));
        let size = if member.me { 17.0 } else { 13.0 };
        let at = place(index);
        graph.spawn((
            Node {
                position_type: PositionType::Absolute,
                left: px(at.x - size / 2.0),
                top: px(at.y - size / 2.0),
                width: px(size),
                height: px(size),
                border: px(2).all(),
                border_radius: BorderRadius::MAX,
                ..default()
            },
            BackgroundColor(color),
            BorderColor::all(if member.me { INK } else { Color::srgba(0.02, 0.02, 0.08, 0.9) }),
        ));
        let side = if at.y < GRAPH.y / 2.0 - 1.0 { -18.0 } else { 18.0 };
        let name = player.map_or_else(|| member.peer.short(), |player| player.name.clone());
        label(graph, fonts, at + Vec2::Y * side, if member.me { format!("{name} (you)") } else { name }, 12.0, INK, Color::NONE);
    }
}

fn line(graph: &mut ChildSpawnerCommands, from: Vec2, to: Vec2, width: f32, color: Color) {
    let middle = from.lerp(to, 0.5);
    let length = from.distance(to);
    graph.spawn((
        Node {
            position_type: PositionType::Absolute,
            left: px(middle.x - length / 2.0),
            top: px(middle.y - width / 2.0),
            width: px(length),
            height: px(width),
            ..default()
        },
        UiTransform::from_rotation(Rot2::radians((to - from).to_angle())),
        BackgroundColor(color),
    ));
}

/// Text around a place.
fn label(graph: &mut ChildSpawnerCommands, fonts: &Fonts, at: Vec2, text: String, size: f32, color: Color, back: Color) {
    const WIDTH: f32 = 130.0;
    graph.spawn((
        Node {
            position_type: PositionType::Absolute,
            left: px(at.x - WIDTH / 2.0),
            top: px(at.y - size * 0.62),
            width: px(WIDTH),
            justify_content: JustifyContent::Center,
            ..default()
        },
        children![(
            fonts.text(text, size, color),
            Node { padding: UiRect::axes(px(4), px(0)), border_radius: BorderRadius::all(px(5)), ..default() },
            BackgroundColor(back)
        )],
    ));
}

/// What each of our links carries, and all of them together.
fn write_links(panel: &mut ChildSpawnerCommands, fonts: &Fonts, players: &Players, metrics: &Metrics) {
    row(panel, fonts, ["Linked to", "round trip", "sent", "received", "lost"].map(str::to_owned), FAINT, FAINT);
    for link in metrics.links.iter().take(ROWS_MAX) {
        let player = players.get(link.peer);
        let cells = [
            player.map_or_else(|| link.peer.short(), |player| player.name.clone()),
            link.rtt.map_or_else(|| "–".into(), |rtt| format!("{:.1} ms", rtt.as_secs_f64() * 1e3)),
            rate(link.bytes_sent_per_second),
            rate(link.bytes_received_per_second),
            format!("{:.1} %", link.loss * 100.0),
        ];
        row(panel, fonts, cells, player.map_or(INK, |player| flock_color(player.color)), INK);
    }
    let sum = |part: fn(&peerflock::LinkMetrics) -> f64| metrics.links.iter().map(part).sum::<f64>();
    let cells = [
        format!("{} links", metrics.links.len()),
        String::new(),
        rate(sum(|link| link.bytes_sent_per_second)),
        rate(sum(|link| link.bytes_received_per_second)),
        String::new(),
    ];
    row(panel, fonts, cells, FAINT, FAINT);
}

fn row(panel: &mut ChildSpawnerCommands, fonts: &Fonts, cells: [String; 5], first: Color, rest: Color) {
    panel.spawn(Node { height: px(18), align_items: AlignItems::Center, ..default() }).with_children(|row| {
        for (index, (cell, width)) in cells.into_iter().zip(COLUMNS).enumerate() {
            let right = if index == 0 { JustifyContent::FlexStart } else { JustifyContent::FlexEnd };
            row.spawn((
                Node { width: px(width), justify_content: right, overflow: Overflow::clip(), ..default() },
                children![fonts.text(cell, 12.0, if index == 0 { first } else { rest })],
            ));
        }
    });
}

/// Bytes per second as people read them.
pub(crate) fn rate(bytes: f64) -> String {
    if bytes < 999.5 { format!("{bytes:.0} B/s") } else { format!("{:.1} kB/s", bytes / 1e3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_readable() {
        assert_eq!([rate(0.0), rate(999.4), rate(12_345.0)], ["0 B/s", "999 B/s", "12.3 kB/s"]);
    }
}
