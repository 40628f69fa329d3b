//! A port on net_null: configure, start, loop, stop, start again, close; every frame comes home.

use dpdk::{Burst, Eal, EalArgs, EalError, Pool, Port, PortConfig, StartedPort, StopError};

fn started(port: Port, pool: &Pool) -> StartedPort {
    let mut config = PortConfig::new(vec![pool.clone(), pool.clone()]);
    config.rx_descriptors = 64;
    config.tx_descriptors = 64;
    port.configure(&config).unwrap()
}

/// Receives and sends on every queue until each has moved some frames; returns how many.
fn loop_frames(started: &mut StartedPort) -> usize {
    let mut burst = Burst::new();
    let mut sent = 0;
    for _ in 0..10 {
        for (rx, tx) in started.rx.iter_mut().zip(&mut started.tx) {
            rx.receive(&mut burst);
            for mbuf in &mut burst {
                assert!(mbuf.is_linear());
                assert_eq!(mbuf.len(), 64);
                mbuf.bytes_mut().fill(7);
            }
            sent += tx.send(&mut burst);
            assert!(burst.is_empty(), "net_null takes everything");
        }
    }
    sent
}

#[test]
fn a_port_is_configured_stopped_started_and_closed() {
    let args = EalArgs::parse(&["-l", "0", "--no-huge", "-m", "64", "--vdev", "net_null0"]);
    let args = args.unwrap();
    let eal = Eal::init(&args).unwrap();
    assert!(matches!(Eal::init(&args), Err(EalError::AlreadyInitialised)));
    assert!(!eal.has_hugepages());
    assert!(eal.tsc_hz() > 1_000_000);

    let pool = Pool::create(&eal, "null", 1_023, 32, Pool::DATA_ROOM).unwrap();
    assert_eq!(Port::all(&eal), [0]);
    let port = Port::open(&eal, 0).unwrap();
    assert!(Port::open(&eal, 0).is_err(), "a port has one owner");
    assert!(Port::open(&eal, 9).is_err(), "there is one port");
    let info = port.info().unwrap();
    assert_eq!((info.name.as_str(), info.driver.as_str()), ("net_null0", "net_null"));
    assert!(info.max_rx_queues >= 2, "{info:?}");

    let mut first = started(port, &pool);
    let sent = loop_frames(&mut first);
    assert_eq!(sent, 2 * 10 * 32);
    assert_eq!(first.control.stats().unwrap().tx_frames, sent as u64);
    first.control.clear_stats().unwrap();
    assert_eq!(first.control.stats().unwrap().tx_frames, 0);
    assert!(first.control.link().unwrap().up);

    // A queue that is still with a worker keeps the port from being stopped.
    let StartedPort { mut rx, tx, control } = first;
    let with_worker = rx.pop().unwrap();
    let refused = control.stop(rx, tx).unwrap_err();
    assert!(refused.to_string().contains("come back from the workers"), "{refused}");
    let StopError::QueuesMissing(parts) = refused else { panic!("{refused}") };
    let StartedPort { mut rx, tx, control } = *parts;
    rx.push(with_worker);
    let port = control.stop(rx, tx).unwrap();

    let mut again = started(port, &pool);
    assert!(loop_frames(&mut again) > 0);
    drop(again);
    assert!(Port::open(&eal, 0).is_err(), "a closed device is gone");
    assert_eq!(pool.in_use(), 0, "every frame came home");
    assert_eq!(pool.available(), pool.count());

    drop(pool);
    eal.close().unwrap();
    assert!(matches!(Eal::init(&args), Err(EalError::AlreadyInitialised)));
}
