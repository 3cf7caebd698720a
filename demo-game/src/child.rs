//! A bot in a process of its own, on the leash of the process that started it.

use std::io::{self, stdin, stdout};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use bevy::app::{ScheduleRunnerPlugin, TaskPoolOptions, TaskPoolPlugin};
use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::bot::BotPlugin;
use crate::chat::Said;
use crate::ending::{self, Ending};
use crate::game::{GamePlugin, Quiet};
use crate::measure::{self, Measured};
use crate::pipe::{self, News, Order};
use crate::players::Players;
use crate::settings::Settings;
use crate::trade::Trades;

/// Orders that wait to be taken; there are but a handful.
const ORDERS_MAX: usize = 16;
/// How often to say what we see, in seconds.
const STATUS_EVERY: f32 = 0.25;
/// How long the game may take to end by itself when the leash is gone.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Frames per fixed tick: news waits half a tick at most until it is applied.
const FRAMES_PER_TICK: f64 = 2.0;

/// Waits for settings on standard input and plays until it closes.
pub(crate) fn run() -> ExitCode {
    let mut orders = pipe::read::<Order>(stdin());
    let Some(Order::Begin(settings)) = orders.next() else {
        return ending::fail("this process is for the launcher to start: it expects its orders on standard input");
    };
    let (sender, receiver) = sync_channel(ORDERS_MAX);
    let reader = thread::Builder::new().name("orders".into()).spawn(move || {
        for order in orders {
            if sender.send(order).is_err() {
                break;
            }
        }
        drop(sender);
        // The game sees that there will be no more orders, and says goodbye. Should it hang, it must not outlive its parent.
        thread::sleep(END_WITHIN);
        std::process::exit(0);
    });
    if let Err(error) = reader {
        return ending::fail(&format!("the system refused a thread: {error}. Close other programs and try again"));
    }
    ending::code(&app(*settings, receiver).run())
}

fn app(settings: Settings, orders: Receiver<Order>) -> App {
    let mut app = App::new();
    let frame = Duration::from_secs_f64(1.0 / (settings.tick_rate * FRAMES_PER_TICK));
    let measured = settings.measured;
    app.add_plugins(
        MinimalPlugins
            // Bots are many and their work is small: one thread each.
            .set(TaskPoolPlugin { task_pool_options: TaskPoolOptions::with_num_threads(1) })
            .set(ScheduleRunnerPlugin::run_loop(frame)),
    )
    .add_plugins((GamePlugin(settings), BotPlugin { talks: !measured }, Ending))
    .insert_resource(Orders(Mutex::new(orders)))
    .add_systems(Update, (obey, announce.run_if(resource_exists::<MeshHandle>)));
    if measured {
        app.add_plugins(measure::plugin);
    } else {
        app.init_resource::<Measured>();
    }
    app
}

/// What the launcher wants. A mutex, because a receiver alone may not be shared between threads.
#[derive(Resource)]
struct Orders(Mutex<Receiver<Order>>);

fn obey(
    time: Res<Time<Real>>,
    orders: Res<Orders>,
    mesh: Option<Res<MeshHandle>>,
    settings: Res<Settings>,
    players: Res<Players>,
    said: Res<Said>,
    trades: Res<Trades>,
    mut measured: ResMut<Measured>,
    mut quiet: ResMut<Quiet>,
    mut exit: MessageWriter<AppExit>,
) {
    let now = time.elapsed_secs_f64();
    // Nobody else locks it, so that it cannot be poisoned; if it were, there would be no more orders.
    let order = orders.0.lock().map_or(Err(TryRecvError::Disconnected), |orders| orders.try_recv());
    match (order, mesh) {
        (Err(TryRecvError::Disconnected), _) => _ = exit.write(AppExit::Success),
        (Ok(Order::Play { chat, seconds }), Some(mesh)) => measured.begin(now, chat, seconds, &mesh),
        (Ok(Order::Quiet), _) => {
            quiet.0 = true;
            measured.end(now);
        }
        (Ok(Order::Report), Some(mesh)) => {
            tell(&News::Report(Box::new(measured.report(&mesh, &players, &settings, &said, &trades))), &mut exit);
        }
        (Ok(Order::Begin(_) | Order::Play { .. } | Order::Report) | Err(TryRecvError::Empty), _) => {}
    }
}

fn announce(
    time: Res<Time>,
    mut since: Local<Option<f32>>,
    mesh: Res<MeshHandle>,
    players: Res<Players>,
    mut exit: MessageWriter<AppExit>,
) {
    let Some(since) = &mut *since else {
        *since = Some(0.0);
        return tell(&News::Ready { peer: mesh.id().to_string(), ticket: mesh.ticket().to_string() }, &mut exit);
    };
    *since += time.delta_secs();
    if *since >= STATUS_EVERY {
        *since = 0.0;
        let ahead = players.ranking().first().map(|player| (player.name.clone(), player.birds));
        tell(&News::Status { members: players.len(), birds: players.birds(), ahead }, &mut exit);
    }
}

/// Tells the launcher. If it hears no more, it is gone, and so are we.
fn tell(news: &News, exit: &mut MessageWriter<AppExit>) {
    let told: io::Result<()> = pipe::write(&mut stdout().lock(), news);
    if told.is_err() {
        exit.write(AppExit::Success);
    }
}
