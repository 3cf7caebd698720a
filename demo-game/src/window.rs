//! The game in a window.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use bevy::camera::ScalingMode;
use bevy::input::InputSystems;
use bevy::input_focus::InputFocus;
use bevy::log::LogPlugin;
use bevy::prelude::*;
use bevy::window::{MonitorSelection, PresentMode, WindowMode, WindowResolution};

use crate::bot::BotPlugin;
use crate::chat::Feed;
use crate::cli::Cli;
use crate::ending::{self, Ending};
use crate::game::GamePlugin;
use crate::player::PlayerPlugin;
use crate::world::VIEW;
use crate::{birds_view, chat_box, hud, input, look, mesh_view, screenshot, sky, spectator, tags};

/// What is logged unless `RUST_LOG` says otherwise: nothing that a player could not do anything about.
const LOG: &str = "error,murmuration=warn,bevy_peerflock=error,wgpu=off,wgpu_hal=off,bevy_render::view::window=off";

/// How soon the second Escape has to follow the first, in seconds.
const LEAVE_WITHIN: f64 = 3.0;

/// Whether a frame was shown: what goes wrong later is no lack of a display.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Why there was no window.
#[derive(Clone, Debug)]
pub(crate) struct NoWindow(pub(crate) String);

/// Plays in a window; says why if there cannot be one.
pub(crate) fn play(cli: &Cli) -> Result<ExitCode, NoWindow> {
    if let Some(reason) = no_display() {
        return Err(NoWindow(reason.into()));
    }
    // The windowing library and the graphics driver panic where they cannot work. Until the first frame is shown that means
    // that this machine has no window for us, and no more.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let cli = AssertUnwindSafe(cli);
    let hook_again = AssertUnwindSafe(std::sync::Mutex::new(Some(hook)));
    let played = catch_unwind(|| {
        let mut app = app(&cli);
        let hook_again = hook_again;
        app.add_systems(First, move || {
            if !SHOWN.swap(true, Ordering::Relaxed)
                && let Some(hook) = hook_again.lock().ok().and_then(|mut hook| hook.take())
            {
                set_hook(hook);
            }
        });
        ending::code(&app.run())
    });
    match played {
        Ok(code) => Ok(code),
        Err(panic) if SHOWN.load(Ordering::Relaxed) => std::panic::resume_unwind(panic),
        Err(panic) => {
            _ = take_hook();
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(NoWindow(text.unwrap_or("the system gave no reason").lines().next().unwrap_or_default().into()))
        }
    }
}

/// Why no window can be expected, where that can be told beforehand.
fn no_display() -> Option<&'static str> {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    // Of the two ways to a display on Linux the game is built for the one that needs nothing installed: X11, or XWayland.
    match (cfg!(target_os = "linux"), set("DISPLAY"), set("WAYLAND_DISPLAY")) {
        (false, ..) | (_, true, _) => None,
        (_, _, true) => Some("this Wayland display offers no X11 (DISPLAY is not set)"),
        _ => Some("there is no display (DISPLAY is not set)"),
    }
}

fn app(cli: &Cli) -> App {
    let mut app = App::new();
    let window = Window {
        title: "Murmuration".into(),
        name: Some("murmuration".into()),
        resolution: WindowResolution::new(1280, 720),
        present_mode: PresentMode::AutoVsync,
        ..default()
    };
    app.add_plugins(
        DefaultPlugins
            .set(WindowPlugin { primary_window: Some(window), ..default() })
            .set(LogPlugin { filter: LOG.into(), ..default() }),
    )
    .insert_resource(ClearColor(Color::srgb(0.05, 0.06, 0.16)))
    .add_plugins((GamePlugin(cli.settings()), PlayerPlugin::new(cli, false), Ending))
    .add_plugins((look::plugin, sky::plugin, birds_view::plugin, tags::plugin, hud::plugin, chat_box::plugin))
    .add_plugins(mesh_view::MeshViewPlugin { shown: cli.show_mesh })
    .add_systems(Startup, open_eye)
    .add_systems(Update, fill_screen)
    // Before the chat takes the same key.
    .add_systems(PreUpdate, leave.after(InputSystems));
    if cli.watch {
        app.add_plugins(spectator::plugin);
    } else if cli.autopilot || cli.screenshot.is_some() {
        app.add_plugins(BotPlugin { talks: false });
    } else {
        app.add_plugins(input::plugin);
    }
    if let Some(file) = &cli.screenshot {
        app.add_plugins(screenshot::ScreenshotPlugin {
            file: file.clone(),
            after: cli.screenshot_after,
            players: cli.processes(),
        });
    }
    app
}

fn open_eye(mut commands: Commands) {
    commands.spawn((
        Camera2d,
        // Soft edges come with the pictures.
        Msaa::Off,
        Projection::from(OrthographicProjection {
            scaling_mode: ScalingMode::AutoMin { min_width: VIEW.x, min_height: VIEW.y },
            ..OrthographicProjection::default_2d()
        }),
    ));
}

/// Escape leaves the game, pressed twice: once is a slip of the hand.
fn leave(
    keys: Res<ButtonInput<KeyCode>>,
    focus: Res<InputFocus>,
    time: Res<Time>,
    mut pressed: Local<Option<f64>>,
    mut feed: ResMut<Feed>,
    mut exit: MessageWriter<AppExit>,
) {
    let now = time.elapsed_secs_f64();
    // Where somebody types, Escape closes the chat.
    if focus.get().is_some() || !keys.just_pressed(KeyCode::Escape) {
        return;
    }
    if pressed.is_some_and(|pressed| now - pressed < LEAVE_WITHIN) {
        exit.write(AppExit::Success);
    } else {
        *pressed = Some(now);
        feed.notice(now, "Press Esc again to leave", None);
    }
}

fn fill_screen(keys: Res<ButtonInput<KeyCode>>, mut windows: Query<&mut Window>) {
    if keys.just_pressed(KeyCode::F11) {
        for mut window in &mut windows {
            window.mode = match window.mode {
                WindowMode::Windowed => WindowMode::BorderlessFullscreen(MonitorSelection::Current),
                _ => WindowMode::Windowed,
            };
        }
    }
}
