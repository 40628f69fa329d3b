//! What the device does of the work below TCP and what is done here, decided from its capabilities.
//!
//! A device on a bus is believed: it does the work beside the processor. So are devices whose other
//! end is a neighbour in the same machine (virtio, vhost), between which nobody need compute any
//! checksum, and a bond, which is what its members are. Other virtual devices that claim checksums
//! have their driver compute them, on our core and in a second pass over the frame; the stack does
//! it in passing. An IPv4 header's checksum is always done here: it is 20 bytes that are at hand.

use core::fmt;

use dpdk::{PortInfo, RxChecksum};
use xtcp_stack::world::Checksum;

use crate::cli::{Mode, OffloadChoice, Options};

/// Drivers of virtual devices whose word is as good as a card's.
const BELIEVED: [&str; 4] = ["net_virtio", "net_virtio_user", "net_vhost", "net_bonding"];

/// Who does a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Device,
    /// The stack.
    Us(Why),
}

/// Why it is not the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// `--offloads=off`.
    Told,
    Cannot,
    /// Its driver would do it on our core.
    NoGain,
    /// Frames go out as they came in: what came without a checksum would leave without one.
    NoStack,
}

/// Who does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offloads {
    /// Verifies the TCP checksums of what is received.
    pub(crate) received: By,
    /// Completes those of what is sent.
    pub(crate) sent: By,
    /// Frames may come and go in several mbufs.
    pub(crate) pieces: bool,
    /// The other end is a neighbour in the same machine, which leaves checksums out.
    pub(crate) neighbour: bool,
}

/// What of the device's word on received TCP checksums counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Belief {
    good: bool,
    absent: bool,
}

impl Offloads {
    /// A device that was not asked to verify may say what it likes.
    pub(crate) fn belief(&self) -> Belief {
        let good = self.received == By::Device;
        Belief { good, absent: good && self.neighbour }
    }
}

impl Belief {
    /// The device's word as the stack takes it: all but what is believed to be good is verified.
    #[inline]
    pub(crate) const fn in_word(self, word: RxChecksum) -> Checksum {
        match word {
            RxChecksum::Good if self.good => Checksum::Good,
            RxChecksum::Absent if self.absent => Checksum::Good,
            RxChecksum::Bad => Checksum::Bad,
            RxChecksum::Good | RxChecksum::Absent | RxChecksum::Unknown => Checksum::Unknown,
        }
    }
}

/// Whether the device is on no bus: its name is not a bus address.
pub(crate) fn is_virtual(info: &PortInfo) -> bool {
    !info.name.contains(':')
}

/// Who is to do what. `frame_max` is the longest frame, `room` what an mbuf has room for.
pub(crate) fn plan(options: &Options, info: &PortInfo, frame_max: u16, room: u16) -> Offloads {
    let by = |can: bool| {
        if options.forward_mode == Some(Mode::Macswap) {
            return By::Us(Why::NoStack);
        }
        let gains = !is_virtual(info) || BELIEVED.contains(&info.driver.as_str());
        match options.offloads {
            OffloadChoice::Off => By::Us(Why::Told),
            _ if !can => By::Us(Why::Cannot),
            OffloadChoice::Auto if !gains => By::Us(Why::NoGain),
            OffloadChoice::Auto | OffloadChoice::On => By::Device,
        }
    };
    Offloads {
        received: by(info.verifies_tcp()),
        sent: by(info.completes_tcp()),
        pieces: room < frame_max,
        neighbour: BELIEVED.contains(&info.driver.as_str()),
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Us(Why::Told) => "stack (--offloads=off)",
            Self::Us(Why::Cannot) => "stack (the device cannot)",
            Self::Us(Why::NoGain) => "stack (the driver would do it in software, too)",
            Self::Us(Why::NoStack) => "nobody (frames go out as they came)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::tests::{info, options};

    #[test]
    fn checksums_are_left_to_who_gains_by_it() {
        // `RTE_ETH_RX_OFFLOAD_TCP_CKSUM` and `RTE_ETH_TX_OFFLOAD_TCP_CKSUM` are the same bit.
        let all = 1 << 3;
        let us = By::Us;
        for (name, driver, line, can, expected) in [
            ("0000:03:00.0", "net_ice", "", all, By::Device),
            ("0000:03:00.0", "net_ice", "--offloads off", all, us(Why::Told)),
            ("0000:03:00.0", "net_e1000_em", "", 0, us(Why::Cannot)),
            ("0000:03:00.0", "net_e1000_em", "--offloads on", 0, us(Why::Cannot)),
            ("net_tap0", "net_tap", "", all, us(Why::NoGain)),
            ("net_tap0", "net_tap", "--offloads on", all, By::Device),
            ("net_virtio_user0", "net_virtio_user", "", all, By::Device),
            ("net_vhost0", "net_vhost", "", all, By::Device),
            ("net_vhost0", "net_vhost", "--forward-mode macswap", all, us(Why::NoStack)),
        ] {
            let info = PortInfo {
                driver: driver.to_owned(),
                rx_offloads: can,
                tx_offloads: can,
                ..info(name, 1, 1)
            };
            let plan = plan(&options(line), &info, 1522, 2048);
            let neighbour = driver.contains("virtio") || driver.contains("vhost");
            let (received, sent) = (expected, expected);
            assert_eq!(plan, Offloads { received, sent, pieces: false, neighbour });
        }
        let one_way = PortInfo { tx_offloads: all, ..info("0000:03:00.0", 1, 1) };
        let plan = plan(&options(""), &one_way, 9022, 2048);
        let received = By::Us(Why::Cannot);
        let sent = By::Device;
        assert_eq!(plan, Offloads { received, sent, pieces: true, neighbour: false });
    }

    #[test]
    fn n41_only_a_good_word_from_who_can_know_spares_the_verification() {
        let all = 1 << 3;
        let believed = [Checksum::Good, Checksum::Unknown, Checksum::Bad, Checksum::Unknown];
        let neighbours = [Checksum::Good, Checksum::Unknown, Checksum::Bad, Checksum::Good];
        let told = [Checksum::Unknown, Checksum::Unknown, Checksum::Bad, Checksum::Unknown];
        for (name, driver, line, expected) in [
            ("0000:03:00.0", "net_ice", "", believed),
            ("0000:03:00.0", "net_ice", "--offloads off", told),
            ("0000:03:00.0", "net_virtio", "", neighbours),
            ("net_vhost0", "net_vhost", "", neighbours),
            ("net_vhost0", "net_vhost", "--offloads off", told),
            ("net_tap0", "net_tap", "", told),
            ("net_tap0", "net_tap", "--offloads on", believed),
        ] {
            let driver = driver.to_owned();
            let info = PortInfo { driver, rx_offloads: all, ..info(name, 1, 1) };
            let belief = plan(&options(line), &info, 1522, 2048).belief();
            let words =
                [RxChecksum::Good, RxChecksum::Unknown, RxChecksum::Bad, RxChecksum::Absent];
            assert_eq!(words.map(|word| belief.in_word(word)), expected, "{name} {line}");
        }
    }
}
