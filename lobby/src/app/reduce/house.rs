//! What is decided about a room and its people, and about the player.

use std::time::Duration;

use peerflock::PeerId;

use super::{Fields, Model};
use crate::app::action::Action;
use crate::app::widgets::field::{self, Field};

/// The time between two lines of each in slow mode.
const SLOW: Duration = Duration::from_secs(10);

/// What somebody does about a member, or its owner about the room.
pub(super) fn act(model: &mut Model, action: Action, fields: &Fields<'_, '_>) {
    match action {
        Action::Mute(peer) => mute(model, peer),
        Action::Whisper(peer) => whisper(model, peer, fields),
        Action::Remove(peer) => remove(model, peer),
        Action::ToggleClosed => {
            if let Some(visit) = &mut model.visit {
                visit.room.close(!visit.room.is_closed());
            }
        }
        Action::ToggleSlow => {
            let outcome = model.visit.as_mut().map_or(Ok(()), |visit| {
                let every = visit.room.slow_mode().is_none().then_some(SLOW);
                visit.room.set_slow_mode(every)
            });
            if let Err(error) = outcome {
                model.tell(super::capitalized(&error.to_string()), true);
            }
        }
        _ => {}
    }
}

/// What the player decides about itself.
pub(super) fn personal(model: &mut Model, action: Action) {
    match action {
        Action::Color(color) => {
            model.settings.color = if model.settings.color == Some(color) { None } else { Some(color) };
            if let (Some(visit), Some(color)) = (&mut model.visit, model.settings.color) {
                visit.room.set_color(color);
            }
        }
        Action::ToggleIdentity => model.settings.keep_identity = !model.settings.keep_identity,
        _ => {}
    }
    model.remember();
}

fn mute(model: &mut Model, peer: PeerId) {
    let Some(visit) = &mut model.visit else { return };
    let name = visit.members.iter().find(|member| member.peer == peer).map(|member| member.name.clone()).unwrap_or_default();
    let muted = !visit.muted.contains(&peer);
    if let Ok(talk) = visit.room.talk() {
        talk.mute(peer, muted);
    }
    if muted {
        visit.muted.insert(peer)
    } else {
        visit.muted.remove(&peer)
    };
    model.dialog = None;
    model.tell(if muted { format!("You no longer hear {name}.") } else { format!("You hear {name} again.") }, false);
}

fn whisper(model: &mut Model, peer: PeerId, fields: &Fields<'_, '_>) {
    let line = field::value(Field::Whisper, fields).unwrap_or_default();
    let Some(visit) = &mut model.visit else { return };
    match visit.room.whisper(peer, &line) {
        Ok(()) => model.dialog = None,
        Err(error) => {
            let about = model.dialog.as_ref().map(|dialog| dialog.about.clone());
            if let Some(about) = about {
                model.ask(about, Some(super::capitalized(&error.to_string())));
            }
        }
    }
}

fn remove(model: &mut Model, peer: PeerId) {
    let Some(visit) = &mut model.visit else { return };
    let name = visit.members.iter().find(|member| member.peer == peer).map(|member| member.name.clone()).unwrap_or_default();
    let outcome = visit.room.remove(peer);
    model.dialog = None;
    match outcome {
        Ok(()) => model.tell(format!("{name} was removed. Old invitations no longer work; make a new one."), false),
        Err(error) => model.tell(super::capitalized(&error.to_string()), true),
    }
}
