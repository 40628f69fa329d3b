//! Frames in several pieces, on a ring that gives back what it was sent; and a device's RSS as it was
//! told.

use dpdk::{BURST, Burst, Eal, EalArgs, Pool, Port, PortConfig, RSS_KEY_MAX, RxChecksum};

#[test]
fn frames_in_pieces_are_whole_and_come_home() {
    let line = "-l 0 --no-huge -m 64 --vdev net_ring0 --vdev net_null0";
    let line: Vec<&str> = line.split(' ').collect();
    let eal = Eal::init(&EalArgs::parse(&line).unwrap()).unwrap();
    let pool = Pool::create(&eal, "pieces", 1_023, 32, Pool::DATA_ROOM).unwrap();
    written_and_read(&pool, &[1, 60, 2_047, 2_048, 2_049, 9_014, BURST * 2_048]);
    brought_together(&pool);
    // A byte in each, and two, and seven: every header lies in several, and so do its fields.
    for room in [1, 2, 7] {
        let crumbs = Pool::create(&eal, &format!("crumbs-{room}"), 2_047, 32, room).unwrap();
        let most = BURST * usize::from(room);
        let lengths = [1, 7, 8, 20, 54, 60, most].into_iter().filter(|len| *len <= most);
        written_and_read(&crumbs, &lengths.collect::<Vec<_>>());
    }
    sent_and_received(&eal, &pool);
    a_device_is_told_where_to_send_what(&eal, &pool);
    assert_eq!(pool.in_use(), 0);
    drop(pool);
    eal.close().unwrap();
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn written_and_read(pool: &Pool, lengths: &[usize]) {
    let room = usize::from(pool.data_room());
    for &len in lengths {
        let mut mbuf = pool.alloc_frame(len).unwrap();
        assert_eq!((mbuf.len(), mbuf.is_linear()), (len, len <= room));
        assert_eq!(pool.in_use(), len.div_ceil(room) as u32);
        let expected = bytes(len);
        assert!(!mbuf.copy_from(&expected[1..]), "too few bytes");
        assert!(mbuf.copy_from(&expected));
        let mut into = vec![0xee; len + 1];
        assert_eq!(mbuf.copy_to(&mut into), Some(len));
        assert!(into[..len] == expected && into[len] == 0xee);
        assert_eq!(mbuf.copy_to(&mut into[1..len]), None, "no room");
        assert_eq!(mbuf.checksum(), RxChecksum::Unknown);
        drop(mbuf);
        assert_eq!(pool.in_use(), 0);
    }
    assert!(pool.alloc_frame(BURST * room + 1).is_none(), "more pieces than a burst has");
}

fn brought_together(pool: &Pool) {
    let room = usize::from(pool.data_room());
    // What fits the first piece can be brought there; what does not stays as it is.
    let mut short = pool.alloc_frame(60).unwrap();
    assert!(short.copy_from(&bytes(60)));
    let mut tail = pool.alloc_frame(100).unwrap();
    assert!(tail.copy_from(&bytes(100)));
    short.chain(tail).unwrap();
    assert_eq!((short.len(), short.bytes().len()), (160, 60));
    short.linearize().unwrap();
    assert!(short.is_linear() && short.bytes() == [bytes(60), bytes(100)].concat());
    short.chain(pool.alloc_frame(room).unwrap()).unwrap();
    assert!(short.linearize().is_err());
    assert_eq!((short.len(), short.is_linear()), (160 + room, false));
}

fn sent_and_received(eal: &Eal, pool: &Pool) {
    let config = PortConfig::new(vec![pool.clone()]);
    let mut started = Port::open(eal, 0).unwrap().configure(&config).unwrap();
    let (mut out, mut back) = (Burst::new(), Burst::new());
    for _ in 0..200 {
        let mut mbuf = pool.alloc_frame(9_014).unwrap();
        assert!(mbuf.copy_from(&bytes(9_014)));
        out.push(mbuf).unwrap();
        assert_eq!(started.tx[0].send(&mut out), 1);
        assert_eq!(started.rx[0].receive(&mut back), 1);
        let mbuf = back.pop().unwrap();
        let mut into = [0; 9_014];
        assert_eq!((mbuf.copy_to(&mut into), mbuf.is_linear()), (Some(9_014), false));
        assert!(into[..] == bytes(9_014));
        // Both ways of going home: alone, and in a burst.
        if mbuf.bytes()[0] % 2 == 0 {
            drop(mbuf);
        } else {
            out.push(mbuf).unwrap();
            out.clear();
        }
    }
    assert_eq!(pool.in_use(), 0);
}

/// net_null spreads nothing, but keeps what it is told.
fn a_device_is_told_where_to_send_what(eal: &Eal, pool: &Pool) {
    let mut config = PortConfig::new(vec![pool.clone(), pool.clone(), pool.clone()]);
    config.rss_key = Some([0x6d; RSS_KEY_MAX]);
    let port = Port::open(eal, 1).unwrap();
    let info = port.info().unwrap();
    let started = port.configure(&config).unwrap();
    let table = started.control.redirection().unwrap();
    assert_eq!(table.len(), usize::from(info.reta_size));
    assert!(table.iter().zip((0..3).cycle()).all(|(queue, turn)| *queue == turn), "{table:?}");
    assert!(!started.control.takes_pieces() && !started.control.completes_tcp());
}
