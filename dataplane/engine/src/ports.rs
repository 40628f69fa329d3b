//! The port: queues, pools, and who spreads the flows.

use dpdk::{Eal, Pool, Port, PortConfig, PortInfo, RSS_KEY_MAX, StartedPort};

use crate::cli::{Options, SpreadChoice};
use crate::error::EngineError;
use crate::offloads::{By, Offloads, is_virtual, plan};
use crate::spread::SpreadBy;

/// Frames each worker keeps from its pool at hand.
const CACHE: u32 = 256;

/// Bytes a frame has beside its IP packet: Ethernet's header and two VLAN tags.
const OVERHEAD: u16 = 22;

/// A started port and what goes with it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) started: StartedPort,
    pub(crate) info: PortInfo,
    /// One pool per worker.
    pub(crate) pools: Vec<Pool>,
    pub(crate) by: SpreadBy,
    pub(crate) offloads: Offloads,
}

/// Bytes of the longest frame.
pub(crate) const fn frame_max(options: &Options) -> u16 {
    options.mtu + OVERHEAD
}

/// Bytes an mbuf has room for.
pub(crate) fn mbuf_room(options: &Options) -> u16 {
    let whole = frame_max(options).next_multiple_of(64).max(Pool::DATA_ROOM);
    options.mbuf_size.unwrap_or(whole)
}

/// Opens, configures and starts the port for `workers` workers. Strangers do not know the key, so
/// they cannot aim their connections at one worker.
pub(crate) fn open(
    eal: &Eal,
    options: &Options,
    workers: u16,
    rss_key: [u8; RSS_KEY_MAX],
) -> Result<Opened, EngineError> {
    let ports = Port::all(eal);
    if !ports.contains(&options.port) {
        return Err(EngineError::NoPort { port: options.port, ports });
    }
    let port = Port::open(eal, options.port)?;
    let info = port.info()?;
    if info.max_mtu != 0 && options.mtu > info.max_mtu {
        let (device, most) = (info.name, info.max_mtu);
        return Err(EngineError::Mtu { device, most, mtu: options.mtu });
    }
    let rx_queues = rx_queues(options, &info, workers)?;
    let wants_rss = wants_rss(options.spread, &info, rx_queues)?;
    let offloads = plan(options, &info, frame_max(options), mbuf_room(options));
    if offloads.pieces && !info.takes_pieces() {
        let (device, given) = (info.name, mbuf_room(options));
        return Err(EngineError::Pieces { device, given, needed: frame_max(options) });
    }
    let pools = pools(eal, options, workers)?;
    let config = PortConfig {
        tx_queues: workers,
        rx_descriptors: options.rxd,
        tx_descriptors: options.txd,
        mtu: options.mtu,
        rss: wants_rss,
        rss_key: Some(rss_key),
        rx_checksums: offloads.received == By::Device,
        tx_checksums: offloads.sent == By::Device,
        pieces: offloads.pieces,
        promiscuous: false,
        all_multicast: true,
        ..PortConfig::new(pools[..usize::from(rx_queues)].to_vec())
    };
    let started = port.configure(&config)?;
    let by = if wants_rss && started.control.rss_hashes() == (true, true) {
        SpreadBy::Device
    } else {
        SpreadBy::Workers
    };
    let info = started.control.info()?;
    Ok(Opened { started, info, pools, by, offloads })
}

/// net_af_packet drops without a word what does not fit a frame of its ring: whether the longest
/// frame does is seen in its arguments only.
pub(crate) fn check_ring(eal: &[String], options: &Options) -> Result<(), EngineError> {
    /// If nobody says otherwise.
    const FRAMESZ: u32 = 2048;
    /// What the kernel puts before a packet, from above.
    const KERNELS: u32 = 80;
    let rings = eal.iter().filter(|word| word.contains("_af_packet"));
    for device in rings {
        let given = device.split(',').find_map(|pair| pair.strip_prefix("framesz="));
        let framesz = given.and_then(|bytes| bytes.parse().ok()).unwrap_or(FRAMESZ);
        let needed = u32::from(frame_max(options)) + KERNELS;
        // The driver wants a ring's frame, all but the kernel's header, to fit an mbuf.
        if framesz < needed || framesz - 32 > u32::from(mbuf_room(options)) {
            let needed = needed.max(framesz).next_power_of_two();
            return Err(EngineError::PacketRing { mtu: options.mtu, framesz, needed });
        }
    }
    Ok(())
}

/// The address we have on the link.
///
/// A tap is a cable with the kernel at its other end, and net_tap says that our end has the
/// kernel's address. Two stations of one address do not talk: ours is one bit further, and
/// locally administered. A tap filters nothing, so it need not be told. Devices without any
/// address (net_ring, net_null) filter nothing, either, and get one from their number.
pub(crate) fn own_mac(info: &PortInfo) -> [u8; 6] {
    let mut mac = info.mac;
    if mac == [0; 6] {
        let [high, low] = info.id.to_be_bytes();
        mac = [2, b'x', b't', b'c', high, low];
    } else if info.driver == "net_tap" {
        mac[0] |= 2;
        mac[5] ^= 1;
    }
    mac
}

/// As many receive queues as workers if the device can, else one.
fn rx_queues(options: &Options, info: &PortInfo, workers: u16) -> Result<u16, EngineError> {
    let refuse =
        |kind, most, needed| EngineError::Queues { device: info.name.clone(), kind, most, needed };
    if workers > info.max_tx_queues {
        return Err(refuse("transmit", info.max_tx_queues, workers));
    }
    match options.rxq {
        Some(rxq) if rxq > info.max_rx_queues => Err(refuse("receive", info.max_rx_queues, rxq)),
        Some(rxq) => Ok(rxq),
        None if workers <= info.max_rx_queues => Ok(workers),
        None => Ok(1),
    }
}

/// Whether the device is to spread the flows.
fn wants_rss(choice: SpreadChoice, info: &PortInfo, rx_queues: u16) -> Result<bool, EngineError> {
    let can = info.spreads_tcp() && info.reta_size > 0;
    match choice {
        SpreadChoice::Software => Ok(false),
        SpreadChoice::Hardware if can => Ok(true),
        SpreadChoice::Hardware => Err(EngineError::NoRss(info.name.clone())),
        // Virtual devices claim RSS and do something else.
        SpreadChoice::Auto => Ok(can && rx_queues > 1 && !is_virtual(info)),
    }
}

/// One pool per worker, so that no two cores share a free list.
fn pools(eal: &Eal, options: &Options, workers: u16) -> Result<Vec<Pool>, EngineError> {
    let count = options.total_num_mbufs / u32::from(workers);
    let room = mbuf_room(options);
    let (cache, port) = (CACHE.min(count / 4), options.port);
    (0..workers)
        .map(|worker| {
            Ok(Pool::create(eal, &format!("xtcp-mbufs-{port}-{worker}"), count, cache, room)?)
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A device with RSS and no other offloads.
    pub(crate) fn info(name: &str, rx: u16, tx: u16) -> PortInfo {
        PortInfo {
            id: 0,
            name: name.to_owned(),
            driver: "test".to_owned(),
            mac: [2; 6],
            socket: None,
            mtu: 1500,
            min_mtu: 68,
            max_mtu: 9000,
            max_rx_queues: rx,
            max_tx_queues: tx,
            rx_descriptors: (0, 4096),
            tx_descriptors: (0, 4096),
            rss_offloads: u64::MAX,
            reta_size: 128,
            rx_offloads: 0,
            tx_offloads: 0,
            link: dpdk::Link { up: true, mbps: None, full_duplex: true },
        }
    }

    /// What a command line says.
    pub(crate) fn options(line: &str) -> Options {
        let words = format!("-- --ip 10.0.0.1/8 {line}");
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        crate::cli::parse(&words).unwrap().options
    }

    #[test]
    fn queues_follow_workers_as_far_as_the_device_goes() {
        let plain = options("");
        assert_eq!(rx_queues(&plain, &info("net_tap0", 16, 16), 3).unwrap(), 3);
        assert_eq!(rx_queues(&plain, &info("net_tap0", 2, 16), 3).unwrap(), 1);
        assert_eq!(rx_queues(&options("--rxq 1"), &info("net_tap0", 16, 16), 1).unwrap(), 1);
        let refused = rx_queues(&plain, &info("net_pcap0", 16, 1), 2).unwrap_err().to_string();
        assert!(
            refused.contains("net_pcap0 has 1 transmit") && refused.contains("-l"),
            "{refused}"
        );
    }

    #[test]
    fn a_ring_of_short_frames_is_refused_with_what_it_needs() {
        const JUMBO: &str = "--mtu 9000 --mbuf-size 16384";
        let device = |arguments: &str| vec![format!("--vdev=net_af_packet0,iface=x{arguments}")];
        assert!(check_ring(&device(""), &options("")).is_ok());
        assert!(check_ring(&device(",framesz=16384"), &options(JUMBO)).is_ok());
        assert!(check_ring(&["--vdev=net_tap0".to_owned()], &options("--mtu 9000")).is_ok());
        for (arguments, line, framesz) in [
            ("", "--mtu 9000", "framesz=16384,blocksz=32768"),
            (",framesz=4096", "--mtu 9000", "framesz=16384,blocksz=32768"),
            (",framesz=16384", "--mtu 9000", "--mbuf-size 16384"),
            (",framesz=4096", "", "--mbuf-size 4096"),
            (",qpairs=2", "--mtu 2000", "framesz=4096,blocksz=8192"),
            (",framesz=1600", "", "framesz=2048,blocksz=4096"),
        ] {
            let refused = check_ring(&device(arguments), &options(line)).unwrap_err().to_string();
            assert!(refused.contains(framesz), "{refused}");
        }
    }

    #[test]
    fn an_mbuf_has_room_for_the_longest_frame_unless_told() {
        for (line, room) in [
            ("", 2048),
            ("--mtu 2000", 2048),
            ("--mtu 2026", 2048),
            ("--mtu 2027", 2112),
            ("--mtu 9000", 9024),
            ("--mtu 9216", 9280),
            ("--mtu 9000 --mbuf-size 2048", 2048),
        ] {
            assert_eq!(mbuf_room(&options(line)), room, "{line}");
        }
    }

    #[test]
    fn who_has_the_kernels_address_or_none_gets_one() {
        let tap = PortInfo { driver: "net_tap".to_owned(), ..info("net_tap0", 1, 1) };
        assert_eq!(own_mac(&tap), [2, 2, 2, 2, 2, 3]);
        assert_eq!(own_mac(&info("net_af_packet0", 1, 1)), [2; 6]);
        let ring = PortInfo { id: 258, mac: [0; 6], ..info("net_ring0", 1, 1) };
        assert_eq!(own_mac(&ring), [2, b'x', b't', b'c', 1, 2]);
    }

    #[test]
    fn rss_is_believed_of_devices_on_a_bus_only() {
        for (name, queues, reta, choice, expected) in [
            ("0000:03:00.0", 4, 128, SpreadChoice::Auto, Some(true)),
            ("0000:03:00.0", 1, 128, SpreadChoice::Auto, Some(false)),
            ("0000:03:00.0", 4, 0, SpreadChoice::Auto, Some(false)),
            ("0000:03:00.0", 4, 0, SpreadChoice::Hardware, None),
            ("0000:03:00.0", 4, 128, SpreadChoice::Software, Some(false)),
            ("net_null0", 4, 128, SpreadChoice::Auto, Some(false)),
            ("net_null0", 4, 128, SpreadChoice::Hardware, Some(true)),
        ] {
            let info = PortInfo { reta_size: reta, ..info(name, 8, 8) };
            let wants = wants_rss(choice, &info, queues).ok();
            assert_eq!(wants, expected, "{name} {queues} {reta} {choice:?}");
        }
    }
}
