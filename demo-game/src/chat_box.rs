//! The chat on the window: lines that fade, and a place to type.

use bevy::input::keyboard::{Key, KeyboardInput};
use bevy::input_focus::{FocusCause, InputFocus};
use bevy::prelude::*;
use bevy::text::{EditableText, TextCursorStyle};
use bevy_peerflock::prelude::*;

use crate::chat::{Feed, Line, Say};
use crate::look::{Fonts, INK, name_color, panel};
use crate::players::Players;

/// How long a line is shown, in seconds, the time it fades included.
const LINE_SECONDS: f64 = 14.0;
/// The time it fades.
const FADE_SECONDS: f64 = 2.0;
/// Most lines at once.
const LINES_MAX: usize = 8;
/// Most characters typed.
const LETTERS_MAX: usize = 120;

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(Startup, hang).add_systems(Update, (open_or_close, show, fade).chain());
}

/// The whole of it.
#[derive(Component)]
struct ChatBox;

/// Where lines appear.
#[derive(Component)]
struct Lines;

/// A line: when it was said, in seconds on the program's clock, and by whom.
#[derive(Component)]
struct Shown(f64, Option<PeerId>);

/// Where one types, while one does.
#[derive(Component)]
struct Prompt;

fn hang(mut commands: Commands) {
    let column = Node { flex_direction: FlexDirection::Column, align_items: AlignItems::FlexStart, row_gap: px(3), ..default() };
    commands.spawn((
        ChatBox,
        Node { position_type: PositionType::Absolute, left: px(16), bottom: px(38), row_gap: px(6), ..column.clone() },
        Pickable::IGNORE,
        children![(Lines, column, Pickable::IGNORE)],
    ));
}

/// Enter opens the prompt and says what was typed; Escape closes it.
fn open_or_close(
    mut commands: Commands,
    mut keys: MessageReader<KeyboardInput>,
    mut focus: ResMut<InputFocus>,
    fonts: Res<Fonts>,
    chat: Single<Entity, With<ChatBox>>,
    prompt: Query<(Entity, &Children), With<Prompt>>,
    texts: Query<&EditableText>,
    mut say: MessageWriter<Say>,
) {
    // One key at a time: a second Enter in the same frame would find a prompt that is not there yet.
    let pressed =
        keys.read().find(|key| key.state.is_pressed() && !key.repeat && matches!(key.logical_key, Key::Enter | Key::Escape));
    let Some(key) = pressed else { return };
    match (prompt.iter().next(), &key.logical_key) {
        (None, Key::Enter) => {
            let text = commands
                .spawn((
                    EditableText { max_characters: Some(LETTERS_MAX), ..default() },
                    TextCursorStyle { color: INK, selection_color: Color::srgb(0.25, 0.42, 0.62), ..default() },
                    Fonts::font(&fonts.medium, 14.5),
                    TextColor(INK),
                    TextLayout::no_wrap(),
                    Node { width: px(360), ..default() },
                ))
                .id();
            let frame = panel(Node { padding: UiRect::axes(px(10), px(6)), ..default() });
            commands.spawn((Prompt, frame, ChildOf(*chat))).add_child(text);
            focus.set(text, FocusCause::Navigated);
        }
        (Some((entity, children)), key) => {
            if *key == Key::Enter {
                let typed = children.iter().find_map(|child| texts.get(child).ok()).map(|text| text.value().to_string());
                say.write_batch(typed.map(Say));
            }
            focus.clear();
            commands.entity(entity).despawn();
        }
        _ => {}
    }
}

fn show(
    mut commands: Commands,
    mut known: Local<u64>,
    fonts: Res<Fonts>,
    feed: Res<Feed>,
    lines: Single<(Entity, Option<&Children>), With<Lines>>,
) {
    let fresh = (feed.count - *known).min(LINES_MAX as u64) as usize;
    *known = feed.count;
    let (place, children) = *lines;
    let mut shown = children.map_or(0, |children| children.len());
    for Line { at, speaker, text, color } in feed.iter().rev().take(fresh).rev() {
        let Some(speaker) = speaker else { continue };
        let name = color.map_or(INK, name_color);
        commands.spawn((
            Shown(*at, speaker.peer),
            ChildOf(place),
            Node {
                max_width: px(430),
                padding: UiRect::axes(px(9), px(3)),
                border_radius: BorderRadius::all(px(8)),
                ..default()
            },
            BackgroundColor(Color::srgba(0.045, 0.045, 0.115, 0.42)),
            Pickable::IGNORE,
            children![(
                fonts.bold(format!("{}  ", speaker.name), 14.0, name),
                children![(TextSpan::new(text.clone()), Fonts::font(&fonts.medium, 14.0), TextColor(INK))]
            )],
        ));
        shown += 1;
    }
    let surplus = shown.saturating_sub(LINES_MAX);
    for oldest in children.into_iter().flat_map(|children| children.iter()).take(surplus) {
        commands.entity(oldest).despawn();
    }
}

/// Lines fade with time, unless somebody types and wants to read them.
fn fade(
    mut commands: Commands,
    time: Res<Time>,
    typing: Query<(), With<Prompt>>,
    players: Res<Players>,
    mut lines: Query<(Entity, &Shown, &mut BackgroundColor)>,
    children: Query<&Children>,
    mut colors: Query<(&mut TextColor, Has<Text>)>,
) {
    let now = time.elapsed_secs_f64();
    for (line, shown, mut background) in &mut lines {
        let left = LINE_SECONDS - (now - shown.0);
        if left <= 0.0 && typing.is_empty() {
            commands.entity(line).despawn();
            continue;
        }
        let visible = if typing.is_empty() { (left / FADE_SECONDS).clamp(0.0, 1.0) as f32 } else { 1.0 };
        background.0.set_alpha(0.42 * visible);
        for part in children.iter_descendants(line) {
            let Ok((mut color, is_name)) = colors.get_mut(part) else { continue };
            // A flock may take another color.
            if let Some(player) = shown.1.filter(|_| is_name).and_then(|peer| players.get(peer)) {
                color.0 = name_color(player.color);
            }
            color.0.set_alpha(visible);
        }
    }
}
