//! Frames and their pool: every way a frame goes home, counted.

use std::thread;

use dpdk::{BURST, Burst, Eal, EalArgs, EalError, MbufRing, NotClosed, Pool, RxChecksum, TooLong};

const FRAMES: u32 = 511;

#[test]
fn every_frame_is_accounted_for() {
    let args = EalArgs::parse(&["-l", "0", "--no-huge", "-m", "64"]).unwrap();
    let eal = Eal::init(&args).unwrap();
    let pool = Pool::create(&eal, "pool", FRAMES, 32, 2_048).unwrap();
    assert_eq!((pool.available(), pool.in_use()), (FRAMES, 0));

    frames_have_lengths(&pool);
    bursts_own_their_frames(&pool);
    an_empty_pool_gives_nothing(&pool);
    pools_that_cannot_be_are_refused(&eal);
    rings_move_owners(&eal, &pool);
    every_two_of_64_workers_have_rings(&eal);
    threads_hand_frames_over(&eal, &pool);

    // The end: not with a frame out, and not with a pool in hand.
    let held = eal.clone();
    assert_eq!(eal.close(), Err(NotClosed::Held { holders: 2 }));
    let out = pool.alloc().unwrap();
    drop(pool);
    assert_eq!(held.close(), Err(NotClosed::FramesOut { count: 1 }));
    drop(out);
}

fn frames_have_lengths(pool: &Pool) {
    let mut mbuf = pool.alloc().unwrap();
    assert_eq!((mbuf.len(), mbuf.room(), mbuf.is_linear()), (0, 2_048, true));
    assert!(mbuf.is_empty() && mbuf.bytes().is_empty());
    assert_eq!((mbuf.checksum(), mbuf.rss_hash()), (RxChecksum::Unknown, None));
    mbuf.set_len(2_048).unwrap();
    mbuf.bytes_mut().fill(0xa5);
    assert_eq!(mbuf.set_len(2_049), Err(TooLong { room: 2_048 }));
    assert_eq!(mbuf.set_len(usize::MAX), Err(TooLong { room: 2_048 }));
    assert_eq!(mbuf.len(), 2_048, "a refusal changes nothing");
    mbuf.set_len(60).unwrap();
    assert_eq!(mbuf.bytes(), [0xa5; 60]);
    assert_eq!(mbuf.linearize(), Ok(()));
    assert_eq!(pool.in_use(), 1);
    drop(mbuf);
    assert_eq!(pool.in_use(), 0);
    // A frame that was used comes back empty.
    assert!((0..FRAMES).map_while(|_| pool.alloc()).all(|mbuf| mbuf.is_empty()));
}

fn bursts_own_their_frames(pool: &Pool) {
    let mut burst = Burst::new();
    assert_eq!(pool.alloc_into(&mut burst, 5), 5);
    assert_eq!(pool.alloc_into(&mut burst, usize::MAX), BURST - 5);
    assert!(burst.is_full());
    assert_eq!(pool.alloc_into(&mut burst, 1), 0);
    assert_eq!(pool.in_use(), BURST as u32);

    let extra = pool.alloc().unwrap();
    let extra = burst.push(extra).unwrap_err();
    for (number, mbuf) in (0..).zip(&mut burst) {
        mbuf.set_len(1).unwrap();
        mbuf.bytes_mut()[0] = number;
    }
    let mut other = Burst::default();
    other.push(extra).unwrap();
    other.append(&mut burst);
    assert_eq!((other.len(), burst.len()), (BURST, 1));
    assert_eq!(burst.as_slice()[0].bytes(), [31], "the last did not fit");
    let numbers: Vec<u8> = other.iter().skip(1).map(|mbuf| mbuf.bytes()[0]).collect();
    assert_eq!(numbers, (0..31).collect::<Vec<u8>>());

    assert!(burst.pop().is_some());
    assert_eq!(pool.in_use(), BURST as u32);
    let kept: Vec<_> = other.drain().take(3).collect();
    assert_eq!(pool.in_use(), 3, "what a drain leaves goes home");
    drop(kept);
    pool.alloc_into(&mut burst, 9);
    burst.clear();
    burst.clear();
    pool.alloc_into(&mut burst, 9);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

fn an_empty_pool_gives_nothing(pool: &Pool) {
    let mut all = Vec::new();
    while let Some(mbuf) = pool.alloc() {
        all.push(mbuf);
    }
    assert_eq!(all.len(), FRAMES as usize);
    assert!(all.pop().is_some());
    let mut burst = Burst::new();
    assert_eq!(pool.alloc_into(&mut burst, 2), 0, "all or none");
    assert_eq!(pool.alloc_into(&mut burst, 1), 1);
    drop((all, burst));
    assert_eq!(pool.in_use(), 0);
}

fn pools_that_cannot_be_are_refused(eal: &Eal) {
    for (name, count, cache, room, part) in [
        ("pool", 63, 0, 2_048, "a name of its own"),
        ("a-name-that-is-too-long-for-dpdk", 63, 0, 2_048, "at most 25 bytes"),
        ("huge", 1 << 24, 0, 2_048, "raise -m"),
        ("cache", 63, 64, 2_048, "a cache of at most"),
        ("room", 63, 0, 65_535, "at most 65407 bytes"),
        ("empty", 0, 0, 2_048, "at least one frame"),
        ("nul\0", 63, 0, 2_048, "a pool has"),
    ] {
        let error = Pool::create(eal, name, count, cache, room).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
    let needed = Pool::memory_needed(8_191, Pool::DATA_ROOM);
    assert!((18_000_000..26_000_000).contains(&needed), "{needed}");
}

fn rings_move_owners(eal: &Eal, pool: &Pool) {
    let (mut sender, mut receiver) = MbufRing::create(eal, "ring", 64).unwrap();
    assert!(MbufRing::create(eal, "odd", 63).unwrap_err().to_string().contains("power of two"));
    assert_eq!(sender.capacity(), 63);
    let mut burst = Burst::new();
    let mut sent = 0;
    // A full ring takes nothing and returns: the frames stay with the sender.
    for _ in 0..4 {
        pool.alloc_into(&mut burst, BURST);
        sent += sender.send(&mut burst);
    }
    assert_eq!((sent, burst.len(), sender.len()), (63, BURST, 63));
    assert_eq!(sender.send(&mut burst), 0);
    assert_eq!(pool.in_use(), 63 + BURST as u32);
    burst.clear();
    assert_eq!(receiver.receive(&mut burst), BURST);
    assert_eq!(receiver.receive(&mut burst), 0, "no room in the burst");
    assert_eq!(receiver.len(), 31);
    drop(sender);
    assert_eq!(pool.in_use(), 63, "what is in the ring is the ring's");
    drop(receiver);
    assert_eq!(pool.in_use(), BURST as u32, "the ring's last end sent them home");
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

fn every_two_of_64_workers_have_rings(eal: &Eal) {
    let rings: Vec<_> = (0..64 * 63)
        .map(|number| MbufRing::create(eal, &format!("pair-{number}"), 64).unwrap())
        .collect();
    drop(rings);
    let long = "n".repeat(29);
    assert!(MbufRing::create(eal, &long, 64).unwrap_err().to_string().contains("28 bytes"));
    let large = MbufRing::create(eal, "large", 1 << 30).unwrap_err().to_string();
    assert!(large.contains("Cannot allocate memory") && large.contains("raise -m"), "{large}");
}

/// One thread numbers frames, another checks the numbers; both know DPDK, so both have caches.
fn threads_hand_frames_over(eal: &Eal, pool: &Pool) {
    const COUNT: u64 = 100_000;
    assert!(
        matches!(eal.register_thread(), Err(EalError::ThreadKnown)),
        "the main thread is known"
    );
    let (mut sender, mut receiver) = MbufRing::create(eal, "threads", 128).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let registered = eal.register_thread().unwrap();
            assert!(matches!(eal.register_thread(), Err(EalError::ThreadKnown)));
            assert!(registered.lcore() < 128);
            let (mut burst, mut number) = (Burst::new(), 0_u64);
            while number < COUNT || !burst.is_empty() {
                let wanted = (COUNT - number).min(burst.room() as u64) as usize;
                let had = burst.len();
                pool.alloc_into(&mut burst, wanted);
                for mbuf in &mut burst.as_mut_slice()[had..] {
                    mbuf.set_len(8).unwrap();
                    mbuf.bytes_mut().copy_from_slice(&number.to_le_bytes());
                    number += 1;
                }
                if sender.send(&mut burst) == 0 {
                    thread::yield_now();
                }
            }
        });
        scope.spawn(move || {
            let _registered = eal.register_thread().unwrap();
            let (mut burst, mut expected) = (Burst::new(), 0_u64);
            while expected < COUNT {
                if receiver.receive(&mut burst) == 0 {
                    thread::yield_now();
                }
                for mbuf in burst.drain() {
                    assert_eq!(mbuf.bytes(), expected.to_le_bytes());
                    expected += 1;
                }
            }
        });
    });
    assert_eq!((pool.in_use(), pool.available()), (0, FRAMES), "the threads' caches are counted");
}
