//! `xtcp-counted EXCHANGES BYTES [PAUSE]`: the stack alone. What is counted is what `serve` does: frames in,
//! events, commit and answer, frames out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use xtcp_counted::{Frames, RECEIVE_BYTES, Serve, group, memory, stack};
use xtcp_stack::{Event, Instant, PoolId, QueueId, RxFrame, Stack};

const QUEUE: QueueId = QueueId(0);

struct Server {
    stack: Stack<'static>,
    pool: PoolId,
    copy: Vec<u8>,
}

fn server() -> Server {
    let mut stack = stack();
    let pool = stack.open_pool(memory(RECEIVE_BYTES)).expect("room for a pool");
    stack.open_group(pool, QUEUE, &group()).expect("room for a group");
    Server { stack, pool, copy: vec![0; 2048] }
}

impl Serve for Server {
    fn serve(&mut self, frames: &[RxFrame<'_>], now: Instant, out: &mut Frames) {
        serve(self, frames, now, out);
    }
}

/// One turn of the server, as a worker with the mode echo has it. Its own function, for `bench/count`
/// counts what is done below it.
#[inline(never)]
fn serve(server: &mut Server, frames: &[RxFrame<'_>], now: Instant, out: &mut Frames) {
    let Server { stack, pool, copy } = server;
    stack.on_burst(frames, out, now);
    while let Some(event) = stack.poll_event(QUEUE) {
        if let Event::Data { group, connection, at, len, offset } = event {
            let copy = &mut copy[..usize::from(len)];
            copy.copy_from_slice(stack.received(*pool, at, len));
            let up_to = offset + u64::from(len);
            stack.answer(group, connection, up_to, &*copy, now).expect("there is room");
        }
    }
    stack.on_timeout(now);
    stack.poll_frames(out, now);
}

fn main() -> ExitCode {
    xtcp_counted::run("xtcp-counted", server)
}

#[cfg(test)]
mod tests {
    use xtcp_counted::{DELAYED_ACK, World, assert_every_exchange_is_answered};

    use super::*;

    #[test]
    fn every_exchange_is_answered() {
        assert_every_exchange_is_answered(server);
    }

    #[test]
    fn after_a_pause_every_acknowledgement_has_come_bare_and_all_is_folded() {
        let mut world = World::new(64, server());
        world.connect();
        let before = world.bare_acknowledgements();
        assert_eq!(world.exchange(3200, u32::from(DELAYED_ACK) + 10), 3200);
        assert_eq!(world.bare_acknowledgements() - before, 3200);
        world.turn();
        assert_eq!(world.server().stack.usage().active, 0);
    }
}
