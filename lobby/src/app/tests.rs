use bevy::clipboard::ClipboardPlugin;
use bevy::input_focus::{InputFocus, InputFocusPlugin};
use bevy::text::EditableText;
use peerflock::PeerMesh;
use peerflock_lobby::{Room, RoomOptions};

use super::model::{About, Visit};
use super::widgets::field::Field;
use super::*;

/// The lobby without a window: screens are drawn into a world, and actions do what they do.
fn lobby() -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, AssetPlugin::default(), ClipboardPlugin, InputFocusPlugin))
        .init_asset::<Font>()
        .add_observer(|_: On<bevy::ui_widgets::Activate>| {});
    // The focus of a window that is not there is no concern of ours.
    app.world_mut().spawn((Window::default(), bevy::window::PrimaryWindow));
    app.insert_resource(Model::new("Ada".into(), Some(Interface::Loopback), Vec::new(), Settings::default()));
    parts(&mut app);
    app.update();
    app
}

fn act(app: &mut App, action: Action) {
    app.world_mut().write_message(action);
    app.update();
    app.update();
}

fn texts(app: &mut App) -> String {
    let mut query = app.world_mut().query::<&Text>();
    query.iter(app.world()).map(|text| text.0.clone()).collect::<Vec<_>>().join("\n")
}

fn field(app: &mut App, wanted: Field) -> Option<Entity> {
    let mut query = app.world_mut().query::<(Entity, &Field)>();
    query.iter(app.world()).find(|(_, field)| **field == wanted).map(|(entity, _)| entity)
}

fn model(app: &mut App) -> Mut<'_, Model> {
    app.world_mut().resource_mut::<Model>()
}

#[test]
fn an_empty_list_helps() {
    let mut app = lobby();
    assert!(texts(&mut app).contains("Open one; others on this network will see it."));
}

#[test]
fn every_dialog_opens_takes_the_focus_and_closes() {
    let mut app = lobby();
    let ticket = PeerMesh::named("dusk").loopback_only().lan(false).start_in_background().wait().unwrap().ticket();
    let dialogs = [
        (About::open_room(), Some(Field::RoomName)),
        (About::Invite, Some(Field::Invite)),
        (About::InvitePassword { ticket }, Some(Field::Password)),
        (About::Leave, None),
    ];
    for (about, first) in dialogs {
        model(&mut app).ask(about, None);
        app.update();
        if let Some(first) = first {
            let focused = app.world().resource::<InputFocus>().get();
            assert_eq!(focused, field(&mut app, first), "one can type at once into {first:?}");
        }
        act(&mut app, Action::Cancel);
        assert!(model(&mut app).dialog.is_none());
    }
    assert!(field(&mut app, Field::Password).is_none(), "a closed dialog leaves nothing behind");
}

#[test]
fn what_was_wrong_is_said_and_what_was_typed_stays() {
    let mut app = lobby();
    act(&mut app, Action::UseInvite);
    let invite = field(&mut app, Field::Invite).unwrap();
    app.world_mut().get_mut::<EditableText>(invite).unwrap().editor_mut().set_text("nonsense");
    act(&mut app, Action::Submit);
    assert!(texts(&mut app).contains("That is no invitation."));
    assert_eq!(field(&mut app, Field::Invite), Some(invite), "the same field, not a new one");
    assert_eq!(app.world().get::<EditableText>(invite).unwrap().value().to_string(), "nonsense");

    act(&mut app, Action::Cancel);
    act(&mut app, Action::OpenRoom);
    let name = field(&mut app, Field::RoomName).unwrap();
    app.world_mut().get_mut::<EditableText>(name).unwrap().editor_mut().set_text("\u{200B} ");
    act(&mut app, Action::Submit);
    assert!(texts(&mut app).contains("A room needs a name that people can read."));
    for _ in 0..100 {
        act(&mut app, Action::MoreSeats);
    }
    assert!(texts(&mut app).contains("up to 64"));
}

#[test]
fn a_room_shows_who_is_here_and_what_is_said() {
    let mut app = lobby();
    let mut options = RoomOptions::new("Ada").on(Some(Interface::Loopback));
    let builder = options.create("Friday night", None, "Murmuration", 6).unwrap().lan(false);
    let room = Room::new(builder.start_in_background().wait().unwrap(), &options);
    model(&mut app).visit = Some(Visit::new(room));
    app.update();
    app.update();
    let shown = texts(&mut app);
    for word in ["Friday night", "Ada (you)", "1 of 6", "Start game", "Murmuration, open to all", "Nobody has said anything"] {
        assert!(shown.contains(word), "{word} is missing in\n{shown}");
    }

    let line = field(&mut app, Field::Line).unwrap();
    app.world_mut().get_mut::<EditableText>(line).unwrap().editor_mut().set_text("hello");
    act(&mut app, Action::Say);
    let mut spans = app.world_mut().query::<&TextSpan>();
    let started = std::time::Instant::now();
    while !spans.iter(app.world()).any(|span| span.0 == "hello") {
        assert!(started.elapsed() < Duration::from_secs(10), "what I say comes back");
        app.update();
    }
    assert_eq!(app.world().get::<EditableText>(line).unwrap().value().to_string(), "", "said, so gone from the field");

    act(&mut app, Action::ToggleReady);
    assert!(model(&mut app).visit.as_ref().unwrap().room.is_ready());
    act(&mut app, Action::AskToLeave);
    act(&mut app, Action::Submit);
    assert!(model(&mut app).visit.is_none());
    assert!(texts(&mut app).contains("Open a room"), "back at the list");
}
