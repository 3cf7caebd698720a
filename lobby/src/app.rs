//! The window.

#![allow(elided_lifetimes_in_paths, reason = "the lifetimes of system parameters tell a reader nothing")]

mod action;
mod backdrop;
mod focus;
mod keys;
mod live;
mod model;
mod reduce;
mod screens;
mod screenshot;
mod theme;
mod update;
mod widgets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bevy::input_focus::tab_navigation::TabNavigationPlugin;
use bevy::log::LogPlugin;
use bevy::prelude::*;
use bevy::text::EditableTextSystems;
use bevy::window::{PresentMode, WindowResolution};
use bevy::winit::{UpdateMode, WinitSettings};
use peerflock::Interface;
use peerflock::directory::DirectoryAddress;
use peerflock_lobby::Settings;

use action::Action;
use model::Model;

/// How often the window is drawn while nobody touches it.
const FRAME: Duration = Duration::from_millis(40);
/// The same while another window has the focus: chat and lists go on.
const FRAME_UNFOCUSED: Duration = Duration::from_millis(120);
/// The smallest window that shows everything, in logical pixels.
const SMALLEST: Vec2 = Vec2::new(800.0, 500.0);
/// The window for which sizes were chosen.
const USUAL: Vec2 = Vec2::new(1280.0, 720.0);

/// How the window opens.
pub(crate) struct WindowOptions {
    /// The player's name.
    pub(crate) player: String,
    /// What is remembered from the last time.
    pub(crate) settings: Settings,
    /// Directories at which rooms of all the world are.
    pub(crate) directories: Vec<DirectoryAddress>,
    /// The network to use.
    pub(crate) interface: Option<Interface>,
    /// Where to save a picture of the window before closing it.
    pub(crate) screenshot: Option<PathBuf>,
    /// How long to stay open, if not until it is closed.
    pub(crate) stay: Option<Duration>,
}

/// Whether a frame was drawn: what goes wrong later is no lack of a display.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// Opens the window, and returns when it is closed; or says why there can be none.
pub(crate) fn run(options: WindowOptions) -> Result<AppExit, String> {
    // The windowing library and the graphics driver panic where they cannot work, and say so at length. Until the first
    // frame that only means that there is no window to be had here.
    let hook = Arc::new(take_hook());
    let loud = hook.clone();
    set_hook(Box::new(move |panic| {
        if DRAWN.load(Ordering::Relaxed) {
            loud(panic);
        }
    }));
    let ended = catch_unwind(AssertUnwindSafe(|| open(options)));
    ended.map_err(|panic| {
        if DRAWN.load(Ordering::Relaxed) {
            resume_unwind(panic);
        }
        set_hook(Box::new(move |panic| hook(panic)));
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let reason = text.and_then(|text| text.lines().next()).unwrap_or("the system gave no reason");
        format!("No window can be opened here ({reason})")
    })
}

fn open(options: WindowOptions) -> AppExit {
    let mut app = App::new();
    app.add_plugins(
        DefaultPlugins
            .set(WindowPlugin {
                primary_window: Some(Window {
                    title: "Peerflock Lobby".into(),
                    name: Some("peerflock-lobby".into()),
                    resolution: WindowResolution::new(USUAL.x as u32, USUAL.y as u32),
                    resize_constraints: WindowResizeConstraints { min_width: SMALLEST.x, min_height: SMALLEST.y, ..default() },
                    present_mode: PresentMode::AutoVsync,
                    ..default()
                }),
                ..default()
            })
            .set(LogPlugin { filter: "warn,wgpu=error,naga=error".into(), ..default() }),
    )
    .add_plugins(TabNavigationPlugin)
    .insert_resource(WinitSettings {
        focused_mode: UpdateMode::reactive(FRAME),
        unfocused_mode: UpdateMode::reactive_low_power(FRAME_UNFOCUSED),
    })
    .insert_resource(ClearColor(theme::DIALOG))
    .insert_resource(Model::new(options.player, options.interface, options.directories, options.settings))
    .add_systems(Update, (keys::escape, focus::arrows, action::on_tap).before(reduce::act))
    .add_systems(Update, keys::back_to_chat.after(reduce::act))
    .add_systems(Update, (backdrop::fly, fit, || DRAWN.store(true, Ordering::Relaxed)))
    // What was typed just before Enter is in the field only then.
    .add_systems(PostUpdate, keys::enter.after(EditableTextSystems));
    app.add_observer(keys::shifted);
    parts(&mut app);
    screenshot::plan(&mut app, options.screenshot, options.stay);
    app.run()
}

/// The parts of the window that know nothing of windows: with them the screens can be drawn into a world without one.
fn parts(app: &mut App) {
    app.add_message::<Action>()
        .add_message::<focus::Step>()
        .add_observer(action::on_activate)
        .add_systems(Startup, (backdrop::spawn, |mut commands: Commands| _ = commands.spawn(screens::stage())))
        .add_systems(
            Update,
            (
                (reduce::search, reduce::act).chain(),
                focus::step,
                (update::look, update::enter, update::converse, update::watch).chain(),
                (screens::draw, screens::dialog::draw).chain(),
                (screens::browser::draw, screens::members::draw, screens::chat::draw, screens::dialog::peek),
                live::follow,
                (widgets::button::paint, widgets::field::paint, widgets::scroll::paint),
            )
                .chain(),
        )
        .add_systems(Last, (widgets::scroll::stick, update::goodbye));
    theme::typefaces(app);
}

/// Everything grows with the window, and shrinks a little with a small one.
fn fit(window: Single<&Window>, mut scale: ResMut<UiScale>) {
    let fitting = (window.width() / USUAL.x).min(window.height() / USUAL.y).clamp(0.82, 3.0);
    if (scale.0 - fitting).abs() > 0.01 {
        scale.0 = fitting;
    }
}

#[cfg(test)]
mod tests;
