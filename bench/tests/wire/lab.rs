//! The appliance's dataplane with its TCP echo at one end of a veth pair, and clients made by hand at
//! the other. One dataplane serves many rows; each has ports of its own.

use std::net::IpAddr;
use std::time::Duration;

use crate::packets::{
    ACK, ETHERNET, Mac, PSH, RST, SYN, Seen, Tcp, What, ethertype, frame, moved, mss, packet, seal,
    since, stamps, tcp_packet,
};
use crate::rig::{Rig, SERVER_V4, SERVER_V6};
use crate::served::Served;
use crate::settings::{self, Dataplane};
use crate::wire::{OUR_MAC, Wire};
use xtcp_bench::clock::Deadline;
use xtcp_bench::machine::VethPair;
use xtcp_bench::process::Running;

pub(crate) use crate::packets;
pub(crate) use crate::settings::Setting;

/// The echo's port.
pub(crate) const PORT: u16 = 7;
/// A port nobody listens on.
pub(crate) const CLOSED: u16 = 9;

/// How long anything may take that has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long an application looks at the wire before it looks at its own again.
const TURN: Duration = Duration::from_millis(2);

/// Who sends the pings that say that all is done which came before them.
const MARKER: &str = "10.77.0.250";

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn server(self) -> IpAddr {
        match self {
            Self::V4 => SERVER_V4.parse().expect("an address"),
            Self::V6 => SERVER_V6.parse().expect("an address"),
        }
    }

    /// Host number `n` on the link, which is answered for.
    pub(crate) fn host(self, n: u16) -> IpAddr {
        let [high, low] = n.to_be_bytes();
        assert!(high < 128, "the others are dead");
        match self {
            Self::V4 => IpAddr::from([10, 77, high, low]),
            Self::V6 => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, n]),
        }
    }
}

/// One TCP client, played by hand.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) server: IpAddr,
    pub(crate) server_port: u16,
    /// Our initial number and theirs.
    pub(crate) isn: u32,
    pub(crate) irs: u32,
    /// What we send next, and what we expect next.
    pub(crate) nxt: u32,
    pub(crate) rcv: u32,
    pub(crate) window: u16,
    /// With timestamps: ours, and the last of theirs.
    pub(crate) clock: Option<(u32, u32)>,
}

impl Client {
    pub(crate) fn family(&self) -> Family {
        if self.ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// A segment of ours with these bits, where we are.
    pub(crate) fn segment(&self, flags: u16) -> Tcp {
        Tcp {
            from: self.port,
            to: self.server_port,
            seq: self.nxt,
            ack: if flags & ACK == 0 { 0 } else { self.rcv },
            flags,
            window: self.window,
            options: self.clock.map(|(value, echo)| stamps(value, echo)).unwrap_or_default(),
            ..Tcp::default()
        }
    }

    /// The SYN that begins it.
    pub(crate) fn syn(&self) -> Tcp {
        Tcp { seq: self.isn, ..self.segment(SYN) }
    }

    pub(crate) fn data(&self, text: &[u8]) -> Tcp {
        self.segment(ACK | PSH).text(text)
    }

    /// The frame of a segment.
    pub(crate) fn frame(&self, to: Mac, tcp: &Tcp) -> Vec<u8> {
        frame(to, OUR_MAC, ethertype(self.ip), &tcp_packet(self.ip, self.server, tcp))
    }
}

/// The dataplane and its wire.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) wire: Wire,
    pub(crate) dut: Mac,
    pub(crate) setting: Setting,
    dataplane: Dataplane,
    next_port: u16,
    /// Clients begin just before their numbers wrap.
    pub(crate) wraps: bool,
    pings: u16,
    /// The clients'.
    namespace: String,
    /// Gone when the rest is.
    veth: Option<VethPair>,
}

impl Lab {
    pub(crate) fn start(rig: &Rig, setting: Setting) -> Self {
        let (dataplane, veth, dut) = settings::start(rig, setting);
        let wire = Wire::open(rig.namespace.name(), "peer");
        let mut lab = Self {
            wire,
            dut,
            setting,
            dataplane,
            next_port: 1024,
            wraps: false,
            pings: 0,
            namespace: rig.namespace.name().to_owned(),
            veth,
        };
        if setting == Setting::Tagged {
            lab.wire.vlan = Some(5);
        }
        if setting != Setting::Cautious {
            lab.await_addresses();
            lab.settle();
            lab.wire.forget();
        }
        lab
    }

    /// Kills the dataplane, and starts another in its place.
    pub(crate) fn restart(&mut self) {
        let Dataplane::Alone { running, read, launch } = &mut self.dataplane else {
            panic!("an application would be left behind")
        };
        running.kill().unwrap_or_else(|error| panic!("{error}"));
        *running = launch.start().unwrap_or_else(|error| panic!("{error}"));
        *read = 0;
        crate::rig::wait_until_up(running);
        self.settle();
        self.wire.forget();
    }

    /// The process of the dataplane, or of who started it.
    pub(crate) fn process(&mut self) -> &mut Running {
        match &mut self.dataplane {
            Dataplane::Alone { running, .. } => running,
            Dataplane::Served(served) => served.supervisor(),
        }
    }

    /// The application.
    pub(crate) fn served(&mut self) -> &mut Served {
        match &mut self.dataplane {
            Dataplane::Served(served) => served,
            Dataplane::Alone { .. } => panic!("{:?} has no application", self.setting),
        }
    }

    /// The wire's near end is taken down, or up again.
    pub(crate) fn set_link(&self, state: &str) {
        let veth = self.veth.as_ref().expect("a wire of two ends");
        let line = format!("ip link set {} {state}", veth.near());
        xtcp_bench::machine::run(&line).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The wire's end that is the clients' is taken down, or up again.
    pub(crate) fn set_far_end(&self, state: &str) {
        let line = format!("ip -n {} link set peer {state}", self.namespace);
        xtcp_bench::machine::run(&line).unwrap_or_else(|error| panic!("{error}"));
        self.wire.forget_error();
    }

    /// A command at the prompt; gives the lines of its answer.
    pub(crate) fn ask(&mut self, command: &str) -> Vec<String> {
        let Dataplane::Alone { running, read, .. } = &mut self.dataplane else {
            panic!("{:?} has no prompt", self.setting)
        };
        running.tell(command).unwrap_or_else(|error| panic!("{error}"));
        if command != "show status" {
            running.tell("show status").unwrap_or_else(|error| panic!("{error}"));
        }
        let begin = *read;
        let (_, end) = running
            .wait_for_line(begin, "its status", PATIENCE, |line| line.contains(" s ago, "))
            .unwrap_or_else(|error| panic!("{error}"));
        *read = end;
        running.said()[begin..end].to_vec()
    }

    /// All counters, by name.
    pub(crate) fn counts(&mut self) -> Counts {
        if let Dataplane::Served(served) = &self.dataplane {
            return served.counts();
        }
        let lines = self.ask("show counters all");
        let pairs = lines.iter().filter_map(|line| {
            let line = line.trim_start_matches("xtcp> ");
            let mut words = line.split_whitespace();
            let name = words.next()?;
            // Its meaning stands before or behind the figure.
            let mut figures = [words.next(), words.next_back()].into_iter().flatten();
            let value = figures.find_map(|word| word.parse().ok())?;
            Some((name.to_owned(), value))
        });
        Counts(pairs.collect())
    }

    pub(crate) fn count(&mut self, name: &str) -> u64 {
        self.counts().of(name)
    }

    /// Resident memory of the dataplane in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let pid = match &self.dataplane {
            Dataplane::Alone { running, .. } => running.pid(),
            Dataplane::Served(served) => served.appliance.dataplanes()[0],
        };
        xtcp_bench::process::resident_bytes(pid).expect("it runs")
    }

    pub(crate) fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// A client that has said nothing yet.
    pub(crate) fn client(&mut self, family: Family) -> Client {
        let port = self.port();
        let isn = if self.wraps { 0xffff_fff0 } else { 0x1000_0000 + u32::from(port) * 0x2_0001 };
        Client {
            ip: family.host(9),
            port,
            server: family.server(),
            server_port: PORT,
            isn,
            irs: 0,
            nxt: isn,
            rcv: 0,
            window: u16::MAX,
            clock: None,
        }
    }

    pub(crate) fn send(&self, client: &Client, tcp: &Tcp) {
        self.wire.send(&client.frame(self.dut, tcp));
    }

    /// Sends a packet as it is.
    pub(crate) fn send_packet(&self, ethertype: u16, packet: &[u8]) {
        self.wire.send(&frame(self.dut, OUR_MAC, ethertype, packet));
    }

    /// An ICMP or ICMPv6 message of this type, code and content from a host.
    pub(crate) fn send_icmp(&self, (src, dst): (IpAddr, IpAddr), head: [u8; 8], quote: &[u8]) {
        let mut body = [&head[..], quote].concat();
        let protocol = if src.is_ipv4() { 1 } else { 58 };
        seal(src, dst, protocol, &mut body);
        self.send_packet(ethertype(src), &packet(src, dst, protocol, &body));
    }

    /// Returns when all that was sent is dealt with and what it led to has come. Three pings: the
    /// answer to the first says that what came before is read, and each further one that another
    /// turn of the worker is over, in which the echo and the stack had their say. An application
    /// has its own between them.
    pub(crate) fn settle(&mut self) {
        for _ in 0..3 {
            self.ping();
            if let Dataplane::Served(served) = &mut self.dataplane {
                served.turn();
            }
        }
    }

    /// Call it with the number of each frame of a flood: now and then it waits until the appliance
    /// has taken them from the device, whose ring would lose them in its stead.
    pub(crate) fn pace(&mut self, sent: usize) {
        if sent % 128 == 0 {
            self.ping();
            if let Dataplane::Served(served) = &mut self.dataplane {
                served.turn();
            }
        }
    }

    /// Waits until this holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&mut Self) -> bool) {
        let deadline = Deadline::within(PATIENCE);
        while !holds(self) {
            assert!(!deadline.is_over(), "waiting until {what}");
            self.settle();
        }
    }

    /// Returns when the appliance uses its IPv4 address.
    pub(crate) fn await_addresses(&mut self) {
        let deadline = Deadline::within(PATIENCE);
        while !self.is_answered(Duration::from_millis(50)) {
            assert!(!deadline.is_over(), "it uses no address");
        }
    }

    fn ping(&mut self) {
        assert!(self.is_answered(PATIENCE), "it answers no ping");
    }

    fn is_answered(&mut self, within: Duration) -> bool {
        self.pings = self.pings.wrapping_add(1);
        let number = self.pings;
        let (src, dst) = (MARKER.parse().expect("an address"), Family::V4.server());
        let [high, low] = number.to_be_bytes();
        self.send_icmp((src, dst), [8, 0, 0, 0, 0x77, 0x77, high, low], &[]);
        let answer = self.wire.wait_for(within, |seen| match &seen.what {
            What::Icmp { kind: 0, rest, .. } if rest[..] == [0x77, 0x77, high, low] => Some(()),
            _ => None,
        });
        answer.is_some()
    }

    /// What came for a client by now.
    pub(crate) fn heard(&mut self, client: &Client) -> Vec<Tcp> {
        self.wire.take(|seen| for_client(client, seen))
    }

    /// What all that was sent leads to, as far as it concerns this client.
    pub(crate) fn answers(&mut self, client: &Client) -> Vec<Tcp> {
        self.settle();
        let mut heard = self.heard(client);
        if matches!(self.setting, Setting::Hasty | Setting::Served) {
            // Where times are so short, a busy machine makes it repeat itself meanwhile.
            heard.dedup();
        }
        heard
    }

    /// What a segment leads to.
    pub(crate) fn exchange(&mut self, client: &Client, tcp: &Tcp) -> Vec<Tcp> {
        self.send(client, tcp);
        self.answers(client)
    }

    /// As [`Self::exchange`], and it is one segment.
    pub(crate) fn answer(&mut self, client: &Client, tcp: &Tcp) -> Tcp {
        let answers = self.exchange(client, tcp);
        let [answer] = &answers[..] else { panic!("not one answer to {tcp:?}: {answers:?}") };
        answer.clone()
    }

    /// The next segment for a client, by a timer if need be.
    pub(crate) fn next(&mut self, client: &Client) -> Tcp {
        let deadline = Deadline::within(PATIENCE);
        loop {
            let within = match &mut self.dataplane {
                Dataplane::Alone { .. } => PATIENCE,
                Dataplane::Served(served) => {
                    served.turn();
                    TURN
                }
            };
            if let Some(next) = self.wire.wait_for(within, |seen| for_client(client, seen)) {
                return next;
            }
            assert!(!deadline.is_over(), "a segment in time");
        }
    }

    /// This frame is answered by nothing, and counted under this name.
    pub(crate) fn assert_silence(&mut self, frame: &[u8], counter: &str) {
        let before = self.counts();
        self.settle();
        self.wire.forget();
        self.wire.send(frame);
        self.settle();
        let came = self.wire.take(|seen| Some(seen.clone()));
        assert!(came.is_empty(), "no silence: {came:?}");
        let after = self.counts();
        let by = after.of(counter) - before.of(counter);
        assert_eq!(by, 1, "{counter}: {:?}", after.beyond(&before));
    }

    /// A client that is connected, with a segment size and nothing else agreed.
    pub(crate) fn open(&mut self, family: Family) -> Client {
        self.open_with(family, &mss(1460))
    }

    /// A client that is connected, its SYN with these options.
    pub(crate) fn open_with(&mut self, family: Family, options: &[u8]) -> Client {
        let mut client = self.client(family);
        self.connect(&mut client, options);
        client
    }

    /// Connects a client.
    pub(crate) fn connect(&mut self, client: &mut Client, options: &[u8]) {
        let answer = self.answer(client, &client.syn().with(options));
        self.complete(client, &answer);
    }

    /// Answers a SYN-ACK.
    pub(crate) fn complete(&mut self, client: &mut Client, answer: &Tcp) {
        assert!(answer.has(SYN | ACK), "{answer:?}");
        assert_eq!(answer.ack, moved(client.isn, 1), "{answer:?}");
        client.irs = answer.seq;
        client.nxt = answer.ack;
        client.rcv = moved(answer.seq, 1);
        if let Some((value, _)) = answer.stamps() {
            client.clock = Some((client.clock.map_or(1000, |(ours, _)| ours), value));
        }
        let mut answers = self.exchange(client, &client.segment(ACK));
        answers.retain(|tcp| tcp != answer);
        assert!(answers.is_empty(), "{answers:?}");
    }

    /// The text comes back, all that was sent before is acknowledged, and so is what comes.
    pub(crate) fn echo(&mut self, client: &mut Client, text: &[u8]) {
        for piece in text.chunks(1400) {
            self.send(client, &client.data(piece));
            client.nxt = moved(client.nxt, piece.len() as i64);
        }
        let echoed = self.collect(client, text.len());
        assert_eq!(echoed, text);
    }

    /// The next so many bytes of what is sent to a client, in order; each segment is acknowledged.
    pub(crate) fn collect(&mut self, client: &mut Client, len: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        let mut acknowledged = false;
        while stream.len() < len || !acknowledged {
            let tcp = self.next(client);
            assert!(!tcp.has(RST), "{tcp:?}");
            acknowledged |= tcp.ack == client.nxt;
            if let (true, Some((value, _))) = (tcp.seq == client.rcv, tcp.stamps()) {
                client.clock = client.clock.map(|(ours, _)| (ours.wrapping_add(1), value));
            }
            let skip = since(client.rcv, tcp.seq);
            if let Some(new) = usize::try_from(skip).ok().and_then(|skip| tcp.text.get(skip..)) {
                stream.extend(new);
                client.rcv = moved(client.rcv, new.len() as i64);
            }
            if !tcp.text.is_empty() {
                self.send(client, &client.segment(ACK));
            }
        }
        stream
    }

    /// The connection still works. Its reset is the row's end.
    pub(crate) fn assert_alive(&mut self, mut client: Client) {
        self.settle();
        self.heard(&client);
        self.echo(&mut client, b"are you alive?");
        self.abort(&client);
    }

    /// The service takes a client.
    pub(crate) fn assert_serves(&mut self, family: Family) {
        let mut client = self.open(family);
        self.echo(&mut client, b"are you there?");
        self.abort(&client);
    }

    /// Whether the connection is gone: a segment of it is reset.
    pub(crate) fn assert_gone(&mut self, client: &Client) {
        let before = self.counts();
        let answers = self.exchange(client, &client.segment(ACK));
        let [answer] = &answers[..] else {
            panic!("not one reset: {answers:?}, {:?}", self.counts().beyond(&before));
        };
        assert!(answer.has(RST), "it is still there: {answer:?}");
        assert_eq!(answer.seq, client.rcv);
    }

    /// Resets a connection.
    pub(crate) fn abort(&mut self, client: &Client) {
        self.send(client, &client.segment(RST));
        self.settle();
        self.wire.take(|seen| for_client(client, seen));
    }
}

pub(crate) fn for_client(client: &Client, seen: &Seen) -> Option<Tcp> {
    match &seen.what {
        What::Tcp { src, dst, tcp } => {
            let ours = (*src, *dst, tcp.from, tcp.to)
                == (client.server, client.ip, client.server_port, client.port);
            ours.then(|| tcp.clone())
        }
        _ => None,
    }
}

/// What was counted.
#[derive(Clone, Debug)]
pub(crate) struct Counts(Vec<(String, u64)>);

impl Counts {
    pub(crate) fn new(pairs: Vec<(String, u64)>) -> Self {
        Self(pairs)
    }

    pub(crate) fn of(&self, name: &str) -> u64 {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.unwrap_or_else(|| panic!("no counter {name} in {:?}", self.0)).1
    }

    /// What rose since.
    pub(crate) fn beyond(&self, before: &Self) -> Vec<(&str, u64)> {
        let by = |(name, now): &(String, u64)| now - before.of(name);
        let all = self.0.iter().map(|pair| (pair.0.as_str(), by(pair)));
        all.filter(|(_, by)| *by > 0).collect()
    }
}

/// Bytes of a packet in a frame.
pub(crate) fn packet_of(frame: &mut [u8]) -> &mut [u8] {
    &mut frame[ETHERNET..]
}
