//! Keyframes: the records that a neighbor serves, and their parts on their way into a node.

use peerflock_proto::sim::forge;
use peerflock_proto::sim::fuzz::Story;
use peerflock_proto::{Input, Tick};

use super::node::Scene;
use super::{Script, Target};

/// The first byte says whether the rest is one whole keyframe, or parts for a node.
pub const TARGET: Target = Target { name: "keyframe", seeds, start };

const WHOLE: u8 = 0;

fn seeds() -> Vec<Vec<u8>> {
    let whole = Story::default().keyframes();
    let parts = [vec![1, 0, 0, 2, 0, 2, 1, 1, 0, 1, 2, 0], vec![1, 1, 3, 255, 0, 1, 0, 0, 1, 1, 2, 3, 4]];
    whole.into_iter().map(|bytes| [&[WHOLE], &bytes[..]].concat()).chain(parts).collect()
}

fn start() -> Box<dyn FnMut(&[u8])> {
    let (story, mut scene) = (Story::default(), Scene::new());
    Box::new(move |bytes| {
        let Some((sort, bytes)) = bytes.split_first() else { return };
        if *sort == WHOLE {
            _ = story.keyframe(bytes);
        } else {
            parts(&mut scene, &mut Script(bytes));
        }
    })
}

fn parts(scene: &mut Scene, script: &mut Script<'_>) {
    // Each takes nine bytes and what it holds.
    while !script.is_over() {
        let origin = scene.node(usize::from(script.byte() % 2)).peer_id();
        let boot = scene.node(1).boot();
        let tick = Tick(script.byte().into());
        let mut number = || u16::from_le_bytes([script.byte(), script.byte() % 8]);
        let place = (number(), number(), number());
        let frame = forge::keyframe(origin, boot, tick, place, script.bytes());
        scene.hear(|link| Input::Frame { link, bytes: frame });
    }
    scene.settle();
}
