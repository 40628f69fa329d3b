//! A wire that loses, reorders and duplicates, inside a namespace and without netem.
//!
//! ```text
//! dataplane == near ---- m0 [rules] m1 ---- client interface == kernel clients
//!                           \ slow /
//! ```
//! Every frame from `m1` is sent on by `m0` and the other way round, by nftables rules at ingress. A
//! share is dropped, a share sent twice, and a share takes a slow veth pair whose token bucket lets
//! about a thousand frames a second through, so that those behind it overtake it. Besides, the next
//! segments of a kind can be lost on purpose.

use super::{MachineError, Namespace, VethPair, quieten, run, run_with_input};

/// Shares of all frames, in thousandths, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impairments {
    /// Dropped.
    pub lost: u32,
    /// Taking the slow way.
    pub late: u32,
    /// Sent twice.
    pub twice: u32,
}

/// A direction of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the clients to the dataplane.
    Up,
    /// From the dataplane to the clients.
    Down,
}

/// What is lost on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A segment of at least 256 bytes of text.
    Text,
    /// A segment that only acknowledges.
    Acknowledgement,
}

/// How often each rule hit, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames dropped.
    pub lost: u64,
    /// Frames that took the slow way.
    pub late: u64,
    /// Frames sent twice.
    pub twice: u64,
    /// All frames that came to the wire.
    pub frames: u64,
}

/// The wire between the dataplane's end here and the clients' end in the namespace.
#[derive(Debug)]
pub struct LossyWire {
    pair: VethPair,
    inside: String,
}

/// Rate and longest wait of the slow way.
const SLOW: &str = "tbf rate 12mbit burst 1600 latency 60ms";

impl LossyWire {
    /// Makes the wire; `client` is the clients' interface inside the namespace.
    ///
    /// # Errors
    /// When a name is taken or the kernel lacks nftables' netdev hooks, tbf or veth.
    pub fn create(
        near: &str,
        client: &str,
        namespace: &Namespace,
        impairments: Impairments,
    ) -> Result<Self, MachineError> {
        let inside = namespace.name().to_owned();
        let pair = VethPair::create(near, "m0", namespace)?;
        for (one, other) in [("m1", client), ("up0", "up1"), ("down0", "down1")] {
            run(&format!("ip -n {inside} link add {one} type veth peer name {other}"))?;
            for end in [one, other] {
                namespace.run(&format!("sysctl -qw net.ipv6.conf.{end}.disable_ipv6={}", {
                    u8::from(end != client)
                }))?;
                quieten(end, Some(namespace))?;
                run(&format!("ip -n {inside} link set {end} up"))?;
            }
        }
        namespace.run("sysctl -qw net.ipv6.conf.m0.disable_ipv6=1")?;
        for slow in ["up0", "down0"] {
            namespace.run(&format!("tc qdisc add dev {slow} root {SLOW}"))?;
        }
        let rules =
            [rules(Way::Up, "m1", "m0", impairments), rules(Way::Down, "m0", "m1", impairments)];
        run_with_input(&format!("ip netns exec {inside} nft -f -"), Some(&rules.concat()))?;
        Ok(Self { pair, inside })
    }

    /// Name of the dataplane's end.
    #[must_use]
    pub fn near(&self) -> &str {
        self.pair.near()
    }

    /// Loses the next `count` of these on this way; what is not meant passes.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn lose_next(&self, way: Way, victim: Victim, count: u32) -> Result<(), MachineError> {
        let way = way.table();
        let which = match victim {
            // Shorter than this is a segment without text, whatever its options.
            Victim::Text => "meta length > 300",
            Victim::Acknowledgement => "meta l4proto tcp meta length < 150 tcp flags == ack",
        };
        let rule = format!(
            "add rule netdev {way} losses {which} \
             numgen inc mod 1000000 < {count} counter name lost drop\n"
        );
        let nft = format!("ip netns exec {} nft -f -", self.inside);
        run_with_input(&nft, Some(&rule)).map(|_| ())
    }

    /// Loses nothing more on purpose.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn lose_no_more(&self) -> Result<(), MachineError> {
        for way in [Way::Up, Way::Down] {
            let way = way.table();
            run(&format!("ip netns exec {} nft flush chain netdev {way} losses", self.inside))?;
        }
        Ok(())
    }

    /// Where to capture what the dataplane sends and what reaches it: a loss on the wire is behind
    /// it for the first and before it for the second.
    #[must_use]
    pub const fn middle(&self) -> &'static str {
        "m0"
    }

    /// How often each rule hit so far.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn tally(&self) -> Result<Tally, MachineError> {
        let text = run(&format!("ip netns exec {} nft list counters", self.inside))?;
        let mut tally = Tally::default();
        let mut into = None;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("counter"), Some(name)) => into = Some(name.to_owned()),
                (Some("packets"), Some(count)) => {
                    let count: u64 = count.parse().unwrap_or(0);
                    match into.as_deref() {
                        Some("lost") => tally.lost += count,
                        Some("late") => tally.late += count,
                        Some("twice") => tally.twice += count,
                        Some("frames") => tally.frames += count,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        Ok(tally)
    }
}

impl Way {
    const fn table(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The rules of one direction: in at `from`, out at `to`.
fn rules(way: Way, from: &str, to: &str, impairments: Impairments) -> String {
    let Impairments { lost, late, twice } = impairments;
    let way = way.table();
    format!(
        "table netdev {way} {{
  counter frames {{ }}
  counter lost {{ }}
  counter late {{ }}
  counter twice {{ }}
  chain losses {{
  }}
  chain wire {{
    type filter hook ingress device \"{from}\" priority 0; policy drop;
    counter name frames
    jump losses
    numgen random mod 1000 < {lost} counter name lost drop
    numgen random mod 1000 < {late} counter name late fwd to \"{way}0\"
    numgen random mod 1000 < {twice} counter name twice dup to \"{to}\"
    fwd to \"{to}\"
  }}
  chain slow {{
    type filter hook ingress device \"{way}1\" priority 0; policy drop;
    fwd to \"{to}\"
  }}
}}
"
    )
}
