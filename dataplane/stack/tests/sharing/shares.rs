//! What one pool may take of what all share.

use std::time::Duration;

use xtcp_stack::{Config, Misuse, POOLS_MAX, Part, Payload, PoolInfo, Throttle};

use super::{Crowd, OFF, PORT, info, info_of, one_pool, two_pools};
use crate::sim::peer::{Peer, rst};
use crate::sim::{Memory, config, ordinary_group, xtcp_group};

/// So many bytes.
struct Xs(usize);

impl Payload for Xs {
    fn len(&self) -> usize {
        self.0
    }

    fn copy_to(&self, _: usize, into: &mut [u8]) {
        into.fill(b'x');
    }
}

/// 32 pages of the transmit buffer.
fn small() -> Config {
    Config { transmit_bytes: 33 * 2048, ..config(0, 2) }
}

/// Sends whole pages on the connection told of last until there is no room. How many there were.
fn send_all(peer: &mut Peer<'_>) -> usize {
    let (group, connection, now) = (peer.host.group, peer.cd(), peer.now);
    for pages in 0.. {
        match peer.host.stack.send(group, connection, [b'x'; 2048].as_slice(), now) {
            Ok(()) => {}
            Err(refused) => {
                assert_eq!(refused, Misuse::NoBuffer);
                return pages;
            }
        }
    }
    unreachable!("a buffer has an end")
}

#[test]
fn a_pool_alone_takes_what_there_is() {
    one_pool(&small(), &ordinary_group(PORT), |peer| {
        peer.open();
        assert_eq!(send_all(peer), 32);
        let PoolInfo { transmit_used, transmit_most, transmit_free, .. } = info(peer);
        assert_eq!((transmit_used, transmit_most, transmit_free), (32 * 2048, 32 * 2048, 0));
    });
}

#[test]
fn of_two_pools_one_takes_half() {
    two_pools(&small(), &ordinary_group(PORT), |peer, other| {
        peer.open();
        assert_eq!(send_all(peer), 16);
        other.exchange(peer);
        let usage = peer.host.stack.usage();
        let (own, others) = (info(peer), other.info(peer));
        assert_eq!(usage.transmit_used, own.transmit_used + others.transmit_used);
        assert_eq!((own.transmit_free, others.transmit_free), (0, 16 * 2048));
        assert_eq!(own.connections_most, 128);
        assert_eq!((own.active_most, own.chunks_most), (128, 8192));
        peer.use_port(4000);
        peer.give(rst(1));
        peer.events();
        assert_eq!(info(peer).transmit_free, 16 * 2048);
    });
}

/// A larger share for one leaves a smaller for certain, which nobody touches.
#[test]
fn what_one_leaves_is_kept_for_the_other() {
    let throttle = Throttle { pool_share: 75, ..OFF };
    two_pools(&Config { throttle, ..small() }, &ordinary_group(PORT), |peer, other| {
        peer.open();
        assert_eq!(send_all(peer), 24);
        assert_eq!(other.info(peer).transmit_free, 8 * 2048);
        other.exchange(peer);
    });
}

#[test]
fn without_shares_one_takes_all() {
    two_pools(&Config { throttle: OFF, ..small() }, &ordinary_group(PORT), |peer, other| {
        peer.open();
        assert_eq!(send_all(peer), 32);
        assert_eq!(other.info(peer).transmit_free, 0);
        peer.use_port(4000);
        peer.give(rst(1));
        peer.events();
    });
}

/// Who had everything before the other came keeps it until it is given back, and then only its
/// share.
#[test]
fn a_pool_that_comes_later_gets_its_share_in_time() {
    one_pool(&small(), &ordinary_group(PORT), |peer| {
        let more = Box::leak(Box::new(Memory::new(1 << 17))).aligned();
        peer.open();
        assert_eq!(send_all(peer), 32);
        let late = peer.host.stack.open_pool(more).expect("room for a pool");
        assert_eq!((info(peer).transmit_free, info_of(peer, late).transmit_free), (0, 0));
        peer.give(rst(1));
        peer.events();
        peer.use_port(4001);
        peer.open();
        assert_eq!(send_all(peer), 16);
        assert_eq!(info_of(peer, late).transmit_free, 16 * 2048);
        assert!(peer.host.stack.close_pool(late, peer.now).is_some());
        assert_eq!(send_all(peer), 16, "alone again");
    });
}

#[test]
fn a_refused_pool_gets_its_memory_back() {
    one_pool(&small(), &xtcp_group(PORT), |peer| {
        for _ in 1..POOLS_MAX {
            peer.host.stack.open_pool(&mut []).expect("room");
        }
        let memory: &'static mut [u8] = Box::leak(vec![0; 4096].into_boxed_slice());
        let at = memory.as_ptr();
        let (misuse, back) = peer.host.stack.open_pool(memory).expect_err("no room");
        assert_eq!((misuse, back.as_ptr(), back.len()), (Misuse::TableFull, at, 4096));
    });
}

/// A transaction counts its room in the pool's share, before anything of it is done.
#[test]
fn a_transaction_is_refused_beyond_the_share() {
    two_pools(&small(), &xtcp_group(PORT), |peer, other| {
        let mut crowd = Crowd::default();
        crowd.open(peer, 2);
        let group = peer.host.group;
        let part = |at: usize, len: usize| Part {
            group,
            connection: crowd.clients[&crowd.ports[at]].connection,
            commit: None,
            payload: Xs(len),
        };
        let now = peer.now;
        let refused = peer.host.stack.transact(&[part(0, 8 * 2048), part(1, 9 * 2048)], now);
        assert_eq!(refused, Err((1, Misuse::NoBuffer)));
        assert_eq!(info(peer).transmit_used, 0);
        let done = peer.host.stack.transact(&[part(0, 8 * 2048), part(1, 8 * 2048)], now);
        assert_eq!(done, Ok(()));
        other.exchange(peer);
        crowd.leave(peer);
    });
}

/// A transaction that was found possible is done whole, though its own commits fold a connection
/// and its own looks have taken the last active records meanwhile.
#[test]
fn a_transaction_is_done_whole_with_every_active_record_taken() {
    let config = Config { active_max: 16, throttle: OFF, ..config(0, 2) };
    one_pool(&config, &ordinary_group(PORT), |peer| {
        let PoolInfo { active_most, .. } = info(peer);
        let most = usize::try_from(active_most).expect("few");
        let for_text = most - most / 8;
        let mut crowd = Crowd::default();
        crowd.open(peer, most);
        (0..for_text).for_each(|at| assert!(crowd.fill(peer, at)));
        peer.wait(Duration::from_secs(1));
        let group = peer.host.group;
        let part = |at: usize, commit: u64, len: usize| Part {
            group,
            connection: crowd.clients[&crowd.ports[at]].connection,
            commit: Some(commit),
            payload: Xs(len),
        };
        let mut parts = vec![part(0, 1460, 100)];
        parts.extend((for_text..most).map(|at| part(at, 0, 0)));
        assert_eq!(peer.host.stack.transact(&parts, peer.now), Ok(()));
        assert_eq!(info(peer).transmit_payload, 100);
        assert_eq!(usize::try_from(info(peer).active), Ok(for_text), "those left alone fold again");
        crowd.leave(peer);
    });
}

/// What asks for nothing takes nothing: the connection folds again.
#[test]
fn a_part_that_does_nothing_keeps_no_active_record() {
    one_pool(&small(), &xtcp_group(PORT), |peer| {
        peer.open();
        let (group, connection) = (peer.host.group, peer.cd());
        let nothing = Part { group, connection, commit: None, payload: Xs(0) };
        assert_eq!(peer.host.stack.transact(&[nothing], peer.now), Ok(()));
        assert_eq!(info(peer).active, 0);
    });
}
