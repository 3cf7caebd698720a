//! Text fields: a label, a place to type, a placeholder while it is empty, and a mask for passwords.

use bevy::input_focus::tab_navigation::TabIndex;
use bevy::input_focus::{AutoFocus, InputFocus};
use bevy::prelude::*;
use bevy::text::{EditableText, EditableTextFilter, TextCursorStyle};
use bevy::ui::widget::TextScroll;
use bevy::ui_widgets::SelectAllOnFocus;
use peerflock_lobby::text;

use crate::app::action::{Action, Does};
use crate::app::theme::{self, Typefaces, size};

/// Which field: what is typed is read by this.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// The player's name, in the corner.
    Player,
    /// The player's name, in a dialog.
    Nickname,
    /// The name of a room to be opened.
    RoomName,
    /// A password, to set or to try.
    Password,
    /// An invitation.
    Invite,
    /// A line of chat.
    Line,
    /// What to look for in the list.
    Search,
    /// A line for one member alone.
    Whisper,
}

/// How a field is set up.
pub(crate) struct Setup<'a> {
    /// Which it is.
    pub(crate) field: Field,
    /// What is over it; empty for nothing.
    pub(crate) label: &'a str,
    /// What is in it while nothing is.
    pub(crate) placeholder: &'a str,
    /// What is in it at first.
    pub(crate) value: String,
    /// How many characters fit.
    pub(crate) characters_max: usize,
    /// What Enter does.
    pub(crate) enter: Action,
    /// Whether typing goes there at once.
    pub(crate) focus: bool,
}

/// On a field whose letters are not to be seen. Taken off while they are.
#[derive(Component)]
pub(crate) struct Masked;

/// Over a masked field: one dot for each letter.
#[derive(Component)]
pub(crate) struct Mask(Entity);

/// In an empty field.
#[derive(Component)]
pub(crate) struct Placeholder(Entity);

const PADDING: f32 = 14.0;
const HEIGHT: f32 = 48.0;
/// What stands for a letter that is not to be seen. Every font has it.
const DOT: char = '*';

/// Adds a field below `parent`.
pub(crate) fn spawn(parent: &mut ChildSpawnerCommands<'_>, setup: Setup<'_>, typefaces: &Typefaces) {
    let masked = setup.field == Field::Password;
    let font = if masked { even(typefaces) } else { theme::type_of(size::BODY) };
    parent.spawn((Node { flex_grow: 1.0, ..super::column(6.0) }, Pickable::IGNORE)).with_children(|column| {
        if !setup.label.is_empty() {
            column.spawn(theme::words(setup.label, size::SMALL, theme::QUIET));
        }
        column.spawn((Node { height: px(HEIGHT), ..default() }, Pickable::IGNORE)).with_children(|frame| {
            let input = spawn_input(frame, &setup, font.clone());
            let over = || {
                (
                    Node { position_type: PositionType::Absolute, left: px(PADDING), top: px(top()), ..default() },
                    TextLayout::no_wrap(),
                    Pickable::IGNORE,
                )
            };
            frame.spawn((
                over(),
                Text::new(setup.placeholder),
                theme::type_of(size::BODY),
                TextColor(theme::FAINT),
                Placeholder(input),
            ));
            if masked {
                frame.commands().entity(input).insert(Masked);
                // The dots scroll with what they cover, and end with it.
                frame
                    .spawn((
                        Node {
                            position_type: PositionType::Absolute,
                            left: px(PADDING),
                            right: px(PADDING),
                            top: px(0),
                            bottom: px(0),
                            overflow: Overflow::clip(),
                            ..default()
                        },
                        Pickable::IGNORE,
                    ))
                    .with_children(|clip| {
                        let node = Node { position_type: PositionType::Absolute, top: px(top()), ..default() };
                        clip.spawn((
                            node,
                            TextLayout::no_wrap(),
                            Pickable::IGNORE,
                            Text::default(),
                            font,
                            TextColor(theme::TEXT),
                            Mask(input),
                        ));
                    });
            }
        });
    });
}

fn spawn_input(frame: &mut ChildSpawnerCommands<'_>, setup: &Setup<'_>, font: TextFont) -> Entity {
    let mut input = frame.spawn((
        Node {
            flex_grow: 1.0,
            // Long text scrolls inside instead of widening the field.
            width: px(0),
            padding: UiRect::axes(px(PADDING), px(top() - 1.5)),
            border: px(1.5).all(),
            border_radius: BorderRadius::all(theme::ROUND_INNER),
            ..default()
        },
        EditableText { max_characters: Some(setup.characters_max), cursor_width: 0.1, ..EditableText::new(&setup.value) },
        EditableTextFilter::new(text::may_be_typed),
        TextLayout::no_wrap(),
        font,
        TextColor(theme::TEXT),
        TextCursorStyle {
            color: theme::SUN,
            selection_color: theme::SUN.with_alpha(0.35),
            unfocused_selection_color: Color::NONE,
            selected_text_color: None,
        },
        setup.field,
        Does(setup.enter),
        TabIndex(0),
        BackgroundColor(theme::WELL),
        BorderColor::all(theme::EDGE),
    ));
    if !matches!(setup.field, Field::Line | Field::Search) {
        input.insert(SelectAllOnFocus);
    }
    if setup.focus {
        input.insert(AutoFocus);
    }
    input.id()
}

/// Where a line begins that is centered in a field, from its top.
fn top() -> f32 {
    (HEIGHT - size::BODY * 1.2) / 2.0
}

/// The type of passwords.
fn even(typefaces: &Typefaces) -> TextFont {
    TextFont::from_font_size(FontSize::Px(size::BODY)).with_font(typefaces.even.clone())
}

/// Edges, placeholders and masks follow what is typed.
pub(crate) fn paint(
    focus: Res<InputFocus>,
    mut inputs: Query<
        (Entity, &EditableText, &TextScroll, &mut BorderColor, &mut TextColor, &ComputedNode, Has<Masked>),
        With<Field>,
    >,
    mut placeholders: Query<(&Placeholder, &mut Visibility), Without<Mask>>,
    mut masks: Query<(&Mask, &mut Text, &mut Node, &mut Visibility)>,
) {
    for (entity, _, _, mut border, mut color, _, masked) in &mut inputs {
        border.set_if_neq(BorderColor::all(if focus.get() == Some(entity) { theme::SUN } else { theme::EDGE }));
        color.set_if_neq(TextColor(if masked { Color::NONE } else { theme::TEXT }));
    }
    for (placeholder, mut visibility) in &mut placeholders {
        let empty = inputs.get(placeholder.0).is_ok_and(|(_, text, ..)| is_empty(text));
        visibility.set_if_neq(if empty { Visibility::Inherited } else { Visibility::Hidden });
    }
    for (mask, mut text, mut node, mut visibility) in &mut masks {
        let Ok((_, input, scroll, _, _, computed, masked)) = inputs.get(mask.0) else { continue };
        let dots: String = input.value().into_iter().flat_map(str::chars).map(|_| DOT).collect();
        if text.0 != dots {
            text.0 = dots;
        }
        let left = px(-scroll.0.x * computed.inverse_scale_factor());
        if node.left != left {
            node.left = left;
        }
        visibility.set_if_neq(if masked { Visibility::Inherited } else { Visibility::Hidden });
    }
}

/// What is typed in `field`, if it is on screen.
pub(crate) fn value(field: Field, inputs: &Query<(&Field, &mut EditableText)>) -> Option<String> {
    inputs.iter().find(|(found, _)| **found == field).map(|(_, input)| input.value().to_string())
}

fn is_empty(input: &EditableText) -> bool {
    !input.is_composing() && input.value().into_iter().all(str::is_empty)
}
