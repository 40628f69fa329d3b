//! A port on net_ring, which gives back what it was sent: contents and order, and what happens when
//! its transmit ring is full.

use dpdk::{BURST, Burst, Eal, EalArgs, Pool, Port, PortConfig, RxQueue, TxQueue};

#[test]
fn frames_come_back_in_order_and_a_full_ring_is_said() {
    let line = "-l 0 --no-huge -m 64 --vdev net_ring0 --vdev net_ring1";
    let line: Vec<&str> = line.split(' ').collect();
    let eal = Eal::init(&EalArgs::parse(&line).unwrap()).unwrap();
    let pool = Pool::create(&eal, "ring", 4_095, 64, Pool::DATA_ROOM).unwrap();
    assert_eq!(Port::all(&eal), [0, 1]);

    let mut started =
        Port::open(&eal, 0).unwrap().configure(&PortConfig::new(vec![pool.clone()])).unwrap();
    let (rx, tx) = (&mut started.rx[0], &mut started.tx[0]);
    in_order(&pool, rx, tx);
    full(&pool, rx, tx);
    let stats = started.control.stats().unwrap();
    assert_eq!(stats.tx_frames, stats.rx_frames);
    assert!(stats.tx_frames > 1_000, "{stats:?}");
    drop(started);

    what_does_not_fit_is_refused(&eal, &pool);
    assert_eq!((pool.in_use(), pool.available()), (0, 4_095));
    drop(pool);
    eal.close().unwrap();
}

/// Sends frames of all lengths, each filled with its number, and looks at what comes back.
fn in_order(pool: &Pool, rx: &mut RxQueue, tx: &mut TxQueue) {
    let (mut out, mut back) = (Burst::new(), Burst::new());
    let (mut sent, mut seen) = (0_usize, 0_usize);
    while seen < 2_000 {
        pool.alloc_into(&mut out, BURST);
        for mbuf in &mut out {
            mbuf.set_len(60 + sent % 1_455).unwrap();
            mbuf.bytes_mut().fill(sent as u8);
            sent += 1;
        }
        assert_eq!(tx.send(&mut out), BURST);
        assert!(out.is_empty(), "what was sent is no longer in the burst");
        assert_eq!(rx.receive_at_most(&mut back, 5), 5);
        assert_eq!(rx.receive(&mut back), BURST - 5);
        for mbuf in back.drain() {
            assert_eq!(mbuf.len(), 60 + seen % 1_455);
            assert!(mbuf.bytes().iter().all(|byte| *byte == seen as u8));
            seen += 1;
        }
    }
    assert_eq!(pool.in_use(), 0);
}

/// Fills the ring until it takes no more: `send` returns at once, and the frames stay ours.
fn full(pool: &Pool, rx: &mut RxQueue, tx: &mut TxQueue) {
    let mut out = Burst::new();
    let mut sent = 0;
    let mut refused = 0;
    while refused < 100 {
        pool.alloc_into(&mut out, BURST);
        for mbuf in &mut out {
            mbuf.set_len(64).unwrap();
            mbuf.bytes_mut()[..2].fill(0x55);
        }
        let now = tx.send(&mut out);
        sent += now;
        refused += usize::from(now == 0);
    }
    assert_eq!(out.len(), BURST);
    assert_eq!(pool.in_use() as usize, sent + BURST, "each frame has one owner");

    let mut back = Burst::new();
    let mut seen = 0;
    while rx.receive(&mut back) > 0 {
        assert!(back.iter().all(|mbuf| mbuf.bytes()[..2] == [0x55; 2]));
        seen += back.len();
        back.clear();
    }
    assert_eq!(seen, sent);
    assert_eq!(tx.send(&mut out), BURST, "there is room again");
    assert_eq!(rx.receive(&mut back), BURST);
    drop(back);
    assert_eq!(pool.in_use(), 0);
}

fn what_does_not_fit_is_refused(eal: &Eal, pool: &Pool) {
    let mut config = PortConfig::new(vec![pool.clone()]);
    config.mtu = 9_000;
    let error = Port::open(eal, 1).unwrap().configure(&config).unwrap_err().to_string();
    assert!(error.contains("(net_ring1)"), "{error}");
    assert!(error.contains("data room of at least 9022, and one has 2048"), "{error}");
    assert!(Port::all(eal).is_empty(), "a device that was not configured is closed");
}
